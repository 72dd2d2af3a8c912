package rules

import (
	"net/netip"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// TestStale holds entries of UDP against the rotation of testdata/cluster.json.
func TestStale(t *testing.T) {
	tests := []struct {
		name, asked, answers string
		want                 bool
	}{
		{"virtual IP, replica in the rotation", "10.40.0.1:80", "10.40.33.2:80", false},
		{"virtual IP, replica of another service", "10.40.0.1:80", "10.40.33.9:80", true},
		{"virtual IP without a ready replica", "10.40.0.2:80", "10.40.33.9:80", true},
		{"virtual IP of nobody", "10.40.9.9:80", "10.40.33.9:80", true},
		{"virtual IP, never balanced", "10.40.0.1:80", "10.40.0.1:80", true},
		{"replica's own address", "10.40.33.9:80", "10.40.33.9:80", false},
		{"published port, replica in the rotation", "192.168.50.1:8080", "10.40.32.2:80", false},
		{"published port, other port of the replica", "192.168.50.1:8080", "10.40.32.2:81", true},
		{"published port, replica of another service", "192.168.50.1:8080", "10.40.33.9:80", true},
		{"published port, never balanced", "192.168.50.1:8080", "192.168.50.1:8080", true},
		{"same port of another machine", "192.168.50.77:8080", "192.168.50.77:8080", false},
		{"port that is no longer published", "192.168.50.1:8888", "10.40.32.2:80", true},
		{"what others redirect", "192.168.50.1:8888", "172.17.0.2:80", false},
		{"resolver", "169.254.53.53:53", "169.254.53.53:53", false},
	}
	r := newRotation(readNode(t, "testdata/cluster.json"))
	node := []netip.Addr{netip.MustParseAddr("192.168.50.1")}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := flow{netip.MustParseAddrPort(tt.asked), netip.MustParseAddrPort(tt.answers)}
			if got := r.stale(f, node); got != tt.want {
				t.Errorf("stale(%v) = %v, want %v", f, got, tt.want)
			}
		})
	}
}

// TestLost says after which changes entries have to be looked at.
func TestLost(t *testing.T) {
	tests := []struct {
		name   string
		change func(*resources.NodeNetwork)
		want   bool
	}{
		{"nothing", func(*resources.NodeNetwork) {}, false},
		{"a replica more", func(n *resources.NodeNetwork) {
			s := service(n, "web")
			s.Replicas = append(s.Replicas, resources.MappedReplica{ID: "web-4", Address: netip.MustParseAddr("10.40.33.4"), Ready: true})
		}, false},
		{"a replica out", func(n *resources.NodeNetwork) { setReady(n, "web-1", false) }, true},
		{"a service's first replica", func(n *resources.NodeNetwork) { service(n, "idle").Replicas[0].Ready = true }, true},
		{"a service gone", func(n *resources.NodeNetwork) { n.Map.Services = n.Map.Services[1:] }, true},
		{"a UDP port gone", func(n *resources.NodeNetwork) { service(n, "web").Ports = service(n, "web").Ports[:1] }, true},
		{"a TCP port gone", func(n *resources.NodeNetwork) { service(n, "web").Ports = service(n, "web").Ports[1:] }, false},
		{"a network gone", func(n *resources.NodeNetwork) { n.Map.Networks = n.Map.Networks[1:] }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := readNode(t, "testdata/cluster.json")
			was := newRotation(n)
			tt.change(&n)
			if got := was.lost(newRotation(n)); got != tt.want {
				t.Errorf("lost = %v, want %v", got, tt.want)
			}
		})
	}
}
