package main

import (
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestStatusForPeople(t *testing.T) {
	var out bytes.Buffer
	printStatus(&out, status{
		Cluster: resources.ClusterStatus{
			ClusterConfig: resources.ClusterConfig{ID: "c1", Name: "home"}, Leader: "n1",
			Members: []resources.NodeID{"n1", "n3"}, Waiting: "server n3 has yet to catch up",
		},
		Nodes: []resources.NodeStatus{
			{
				NodeInfo: resources.NodeInfo{
					ID: "n1", Name: "one", Version: "1.0", Podman: "5.4.2", Addresses: []string{"10.0.0.1", "10.1.0.1"}, Server: true,
					Allocatable: resources.Capacity{CPU: 2000, Memory: 3*resources.GiB/2 + 1},
					Conditions:  []resources.NodeCondition{{Type: resources.DiskPressure}},
				},
				Ready: true, Replicas: 1, Reserved: resources.Capacity{CPU: 100, Memory: 64 * resources.MiB},
			},
			{NodeInfo: resources.NodeInfo{ID: "n2", Name: "two", Availability: resources.NodeDrained}},
		},
		Services: []resources.ServiceStatus{{
			Service: resources.Service{Name: "web", Replicas: 2, Template: resources.Template{Image: "registry.skerry.internal/web@sha256:0123456789abcdef"}},
			State:   resources.ServiceRolling, Ready: 1, Count: 2, Revision: 3,
			Replicas: []resources.ReplicaSummary{
				{ID: "web-0-a", NodeName: "one", Published: []string{"10.0.0.1:80"}, Status: resources.ReplicaStatus{State: resources.ReplicaRunning}},
				{ID: "web-1-b", Status: resources.ReplicaStatus{State: resources.ReplicaPending, Message: "0 of 2 nodes fit: 1 drained, 1 lacks memory"}},
			},
		}},
	})
	want := `Cluster home (c1), servers: one (leads), n3
Waits: server n3 has yet to catch up

NODE   STATE                ROLE     REPLICAS   CPU      MEMORY         VERSION   PODMAN   ADDRESS             ID
one    ready,DiskPressure   server   1          100m/2   64MiB/1.5GiB   1.0       5.4.2    10.0.0.1,10.1.0.1   n1
two    silent,drained       worker   0          0/0      0B/0B                                                 n2

SERVICE   STATE     READY   REVISION   IMAGE              PUBLISHED
web       rolling   1/2     3          web@0123456789ab   10.0.0.1:80

web-1-b on no node: 0 of 2 nodes fit: 1 drained, 1 lacks memory
`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestNetworksForPeople(t *testing.T) {
	var out bytes.Buffer
	printNetworks(&out, []resources.NetworkStatus{
		{Network: resources.Network{Name: "blue", Encryption: "none", Internal: true, MTU: 1400}, CIDR: netip.MustParsePrefix("10.40.0.0/16"), Services: []string{}},
		{Network: resources.Network{Name: "default", Encryption: "wireguard"}, CIDR: netip.MustParsePrefix("10.112.0.0/16"), Nodes: 3, Services: []string{"db", "web"}},
	})
	want := `NETWORK   CIDR            ENCRYPTION   INTERNAL   MTU    SERVICES   NODES
blue      10.40.0.0/16    none         true       1400              0
default   10.112.0.0/16   wireguard    false             db,web     3
`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestOneOf(t *testing.T) {
	all := []resources.NodeID{"web-0-abc", "web-0-abd", "db-0-x", "db"}
	names := func(id resources.NodeID) []string { return []string{string(id)} }
	for text, want := range map[string]string{
		"web-0-abc": "web-0-abc",
		"web-0-abd": "web-0-abd",
		"db":        "db", // a whole name comes before the beginning of another
		"db-":       "db-0-x",
		"web":       `"web" may be each of the nodes web-0-abc, web-0-abd; give more of its name`,
		"cache":     `there is no node "cache"; there are: web-0-abc, web-0-abd, db-0-x, db`,
	} {
		got, err := oneOf("node", text, all, names)
		if err != nil && err.Error() != want || err == nil && string(got) != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if _, err := oneOf("node", "a", nil, names); err == nil || err.Error() != `there is no node "a"; there are: none` {
		t.Error(err)
	}
}

func TestLinesOfSeveralReplicas(t *testing.T) {
	var out bytes.Buffer
	p := &prefixed{prefix: "web-0 | ", to: &out, mu: new(sync.Mutex)}
	for _, text := range []string{"one\ntw", "o\n", "\nhalf"} {
		if _, err := p.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); got != "web-0 | one\nweb-0 | two\nweb-0 | \n" {
		t.Errorf("%q", got)
	}
}
