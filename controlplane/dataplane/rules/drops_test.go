package rules

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForwardDrops(t *testing.T) {
	docker := `table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; ct state established accept; }; }`
	tests := []struct {
		name, ruleset string
		want          []string
	}{
		{"nothing", "", nil},
		{"policy of Docker", docker, []string{"ip filter FORWARD"}},
		{"last rule of firewalld", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state established accept
			reject with icmpx admin-prohibited; }; }`, []string{"inet firewalld filter_FORWARD"}},
		{"last rule, counted", `table ip filter { chain FORWARD { type filter hook forward priority filter; counter drop; }; }`, []string{"ip filter FORWARD"}},
		{"a rule with a condition", `table ip filter { chain FORWARD { type filter hook forward priority filter; ip saddr 192.0.2.1 drop; }; }`, nil},
		{"another hook", `table ip filter { chain INPUT { type filter hook input priority filter; policy drop; }; }`, nil},
		{"another protocol", `table ip6 filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }`, nil},
		{"another hook's rule", `table ip filter { chain INPUT { type filter hook input priority filter; drop; }; }`, nil},
		{"what lets replicas pass", `table inet wall { chain forward { type filter hook forward priority filter; policy drop; iifname "skr-*" counter accept; oifname "skr-*" accept; }; }`, nil},
		{"what lets replicas pass one way", `table inet wall { chain forward { type filter hook forward priority filter; policy drop; iifname "skr-*" accept; }; }`, []string{"inet wall forward"}},
		{"what lets some of replicas' packets pass", `table inet wall { chain forward { type filter hook forward priority filter; policy drop
			iifname "skr-*" tcp dport 80 accept; oifname "skr-*" accept; }; }`, []string{"inet wall forward"}},
		{"two, and skerry's own", docker + "\n" + replacement(Build(readNode(t, "testdata/cluster.json"))) +
			"\ntable inet filter { chain forward { type filter hook forward priority filter; policy drop; }; }", []string{"inet filter forward", "ip filter FORWARD"}},
	}
	host := newNamespace(t, "drops")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			host.do(t, func() error {
				err := nft(t.Context(), "flush ruleset\n"+tt.ruleset)
				drops, err2 := ForwardDrops(t.Context())
				for _, d := range drops {
					got = append(got, d.String())
				}
				return errors.Join(err, err2)
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ForwardDrops (-want +got):\n%s", diff)
			}
		})
	}
}
