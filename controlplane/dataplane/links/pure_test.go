package links

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/resources"
)

var compared = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, way{})

func TestMTU(t *testing.T) {
	encrypted := resources.MappedNetwork{Name: "a", Encryption: resources.EncryptionWireGuard}
	plain := resources.MappedNetwork{Name: "b", Encryption: resources.EncryptionNone}
	chosen := resources.MappedNetwork{Name: "c", Encryption: resources.EncryptionWireGuard, MTU: 1300}
	jumbo := resources.MappedNetwork{Name: "d", Encryption: resources.EncryptionNone, MTU: 8000}
	for _, c := range []struct {
		name     string
		networks []resources.MappedNetwork
		carried  int
		want     int
	}{
		{"encrypted over Ethernet", []resources.MappedNetwork{encrypted}, 1500, 1440},
		{"in the clear", []resources.MappedNetwork{plain}, 1500, 1450},
		{"the least of both", []resources.MappedNetwork{plain, encrypted}, 1500, 1440},
		{"jumbo frames", []resources.MappedNetwork{encrypted}, 9000, 8940},
		{"the user's", []resources.MappedNetwork{chosen}, 1500, 1300},
		{"the user's, and another network's", []resources.MappedNetwork{jumbo, plain}, 9000, 8000},
		{"no network yet", nil, 1500, 1500},
	} {
		if got := mtuFor(c.networks, c.carried); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
func address(text string) netip.Addr  { return netip.MustParseAddr(text) }

// testNode is a node with a network of each kind and a replica on both, and one
// peer.
func testNode() resources.NodeNetwork {
	return resources.NodeNetwork{
		Map: resources.NetworkMap{
			Networks: []resources.MappedNetwork{
				{Name: "back", CIDR: prefix("10.2.0.0/16"), Subnet: prefix("10.2.32.0/24"), Internal: true, Encryption: resources.EncryptionNone},
				{Name: "front", CIDR: prefix("10.1.0.0/16"), Subnet: prefix("10.1.32.0/24"), Encryption: resources.EncryptionWireGuard},
			},
			Peers: []resources.Peer{{
				Node: "b", Address: address("192.168.7.2"), PublicKey: "jI6DYlg34+z6Q+q6d8YB5ibQwQAawamJBcht5xF24mE=",
				Subnets: []resources.PeerSubnet{{Network: "back", Subnet: prefix("10.2.33.0/24")}, {Network: "front", Subnet: prefix("10.1.33.0/24")}},
			}},
		},
		Replicas: []resources.LocalReplica{{
			ID:        "web-0-x",
			Addresses: []resources.NetworkAddress{{Network: "back", Address: address("10.2.32.2")}, {Network: "front", Address: address("10.1.32.2")}},
		}},
	}
}

func TestWays(t *testing.T) {
	links := map[string]int{"lo": 1, linkName("web-0-x"): 7, wireguardName: 8, vxlanName: 9}
	back, front := address("10.2.32.1"), address("10.1.32.1")
	want := []way{
		{to: prefix("10.2.0.0/16")},
		{to: prefix("10.2.0.0/19"), link: 1, from: back},
		{to: prefix("10.1.0.0/16")},
		{to: prefix("10.1.0.0/19"), link: 1, from: front},
		{to: prefix("10.2.32.2/32"), link: 7, from: back},
		{to: prefix("10.1.32.2/32"), link: 7, from: front},
		{to: prefix("10.2.33.0/24"), link: 9, via: address("10.2.33.1"), from: back},
		{to: prefix("10.1.33.0/24"), link: 8, from: front},
	}
	if diff := cmp.Diff(want, ways(testNode(), links), compared); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	// What has no interface yet has no route, and is refused meanwhile.
	if got := ways(testNode(), map[string]int{"lo": 1}); len(got) != 4 {
		t.Errorf("without interfaces: %v", got)
	}
	// A route that was made is known again.
	for _, w := range want {
		r := w.route()
		if r.Type != 0 && w.link == 0 {
			r.LinkIndex = 1 // as the kernel tells it
		}
		if got := wayOf(*r); got != w {
			t.Errorf("%+v is read as %+v", w, got)
		}
	}
}

// A replica sends from its address on the network that it sends to, and the way
// out begins on one that has one.
func TestRoutesInside(t *testing.T) {
	n := testNode()
	r := n.Replicas[0]
	var got []string
	for _, route := range routesInside(r, joined(r, n.Map.Networks)) {
		got = append(got, route.Dst.String()+" from "+route.Src.String())
	}
	if diff := cmp.Diff([]string{"10.2.0.0/16 from 10.2.32.2", "10.1.0.0/16 from 10.1.32.2", "0.0.0.0/0 from 10.1.32.2"}, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	r.Addresses, got = r.Addresses[:1], nil
	for _, route := range routesInside(r, joined(r, n.Map.Networks)) {
		got = append(got, route.Dst.String()+" from "+route.Src.String())
	}
	if diff := cmp.Diff([]string{"10.2.0.0/16 from 10.2.32.2", "169.254.53.53/32 from 10.2.32.2"}, got); diff != "" {
		t.Errorf("routes of one that has no way out (-want +got):\n%s", diff)
	}
}

// Names of interfaces are short, and differ.
func TestLinkNames(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []resources.ReplicaID{"web-0-a", "web-0-b", "a-very-long-name-of-a-service-that-goes-on-and-on-12-abcdef"} {
		name := linkName(id)
		if len(name) > 15 || seen[name] {
			t.Errorf("%s has interface %s", id, name)
		}
		seen[name] = true
	}
}
