package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

// TestChange is the text of a rollout's step: web-2 leaves the rotation, a service
// gets its first replica, and a port is no longer published.
func TestChange(t *testing.T) {
	before, after := readNode(t, "testdata/cluster.json"), readNode(t, "testdata/cluster.json")
	service(&after, "web").Replicas[1].Ready = false
	service(&after, "idle").Replicas[0].Ready = true
	service(&after, "db").Ports = nil
	golden(t, "testdata/change.nft", change(Build(before), Build(after)))
}

// TestChangeInKernel changes the table from any state to any other, and reads it
// back: the kernel has what was meant.
func TestChangeInKernel(t *testing.T) {
	host := newNamespace(t, "change")
	from := &Table{}
	rapid.Check(t, func(rt *rapid.T) {
		n := readNode(t, "testdata/cluster.json")
		mutate(rt, &n)
		to := Build(n)
		must(rt, host, func() error { return nft(t.Context(), change(from, to)) })
		from = to
		var has *Table
		must(rt, host, func() error { has = list(t.Context()); return nil })
		if diff := cmp.Diff(inOrder(to), inOrder(has)); diff != "" {
			rt.Fatalf("kernel's table (-meant +listed):\n%s", diff)
		}
	})
}

// inOrder is the text of a table in an order that its history doesn't change.
func inOrder(t *Table) string {
	slices.SortFunc(t.sets, func(a, b set) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(t.chains, func(a, b chain) int { return strings.Compare(a.name, b.name) })
	return t.String()
}

// mutate changes anything that changes in the life of a cluster.
func mutate(t *rapid.T, n *resources.NodeNetwork) {
	often := rapid.IntRange(0, 9)
	some := func(name string) bool { return often.Draw(t, name) < 3 }
	for i := range n.Map.Services {
		s := &n.Map.Services[i]
		for j := range s.Replicas {
			s.Replicas[j].Ready = some("ready")
		}
		if some("portless") {
			s.Ports = nil
		}
		if some("affinity") {
			s.Affinity = resources.AffinityClientIP
		}
	}
	n.Map.Services = slices.DeleteFunc(n.Map.Services, func(resources.MappedService) bool { return some("service gone") })
	n.Replicas = slices.DeleteFunc(n.Replicas, func(resources.LocalReplica) bool { return some("replica gone") })
	n.Map.Nodes = slices.DeleteFunc(n.Map.Nodes, func(netip.Addr) bool { return some("node gone") })
	for i := range n.Map.Networks {
		m := &n.Map.Networks[i]
		m.Internal = some("internal")
		if some("subnet") {
			m.Subnet = n.Map.Peers[0].Subnets[i].Subnet
		}
		if some("encryption") {
			m.Encryption = resources.EncryptionNone
		}
		if some("cidr") {
			m.CIDR = netip.PrefixFrom(m.CIDR.Addr(), 18)
		}
	}
	n.Map.Networks = slices.DeleteFunc(n.Map.Networks, func(resources.MappedNetwork) bool { return some("network gone") })
}

// failer is what tests and property tests have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t failer, in namespace, f func() error) {
	t.Helper()
	if err := in.in(f); err != nil {
		t.Fatalf("in %s: %v", in, err)
	}
}

func service(n *resources.NodeNetwork, name string) *resources.MappedService {
	i := slices.IndexFunc(n.Map.Services, func(s resources.MappedService) bool { return s.Name == name })
	return &n.Map.Services[i]
}
