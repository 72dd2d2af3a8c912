package pulumi

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

func TestSettings(t *testing.T) {
	s := newServer(t)
	// From a stack's configuration, all but texts is JSON.
	args := object{"label": "5", "tags": `["a"]`, "order": []any{1}, "map": `{"on":true}`, "ratio": "0.5", "token": "hush", "link": `{"host":"h"}`, "version": "1.2.3"}
	checked, err := s.CheckConfig(t.Context(), &pulumirpc.CheckRequest{News: s.wire(args)})
	if err != nil || len(checked.Failures) > 0 || !s.plain(checked.Inputs)["token"].IsSecret() {
		t.Fatal(err, checked)
	}
	if _, err := s.Configure(t.Context(), &pulumirpc.ConfigureRequest{Args: checked.Inputs}); err != nil {
		t.Fatal(err)
	}
	got := s.world.Settings
	if got.Label != "5" || got.Ratio != 0.5 || !got.Map["on"] || got.Order[0] != 1 || got.Token != "hush" || got.Link.Host != "h" || got.Link.Port != 22 {
		t.Errorf("the settings arrived as %+v, %+v", got, got.Link)
	}
	diff := func(news object) []string {
		r, err := s.DiffConfig(t.Context(), &pulumirpc.DiffRequest{OldInputs: s.wire(args), News: s.wire(news)})
		if err != nil {
			t.Fatal(err)
		}
		return changes(r)
	}
	if d := cmp.Diff([]string{"~ link.host"}, diff(with(args, "link", object{"host": "i"}))); d != "" || diff(args) != nil {
		t.Error(d)
	}
	bad, err := s.CheckConfig(t.Context(), &pulumirpc.CheckRequest{News: s.wire(object{"every": "never", "link": object{"host": "h", "port": -1}})})
	if err != nil || len(bad.Failures) != 2 {
		t.Error(bad, err)
	}
}

// While the provider's configuration is unknown there are previews, and nothing
// else.
func TestAnUnknownProvider(t *testing.T) {
	s := newServer(t)
	if _, err := s.Configure(t.Context(), &pulumirpc.ConfigureRequest{Args: s.wire(object{"label": unknown})}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: s.wire(written), Preview: true}); err != nil {
		t.Error(err)
	}
	if _, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: s.wire(written)}); err == nil || !strings.Contains(err.Error(), "is not known") {
		t.Error(err)
	}
}
