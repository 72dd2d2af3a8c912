package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func none() []resources.Replica { return nil }

func TestLayout(t *testing.T) {
	for _, c := range []struct{ cidr, virtual, first, last string }{
		{"10.40.0.0/16", "10.40.0.0/19", "10.40.32.0/24", "10.40.255.0/24"},
		{"10.0.0.0/8", "10.0.0.0/11", "10.32.0.0/24", "10.255.255.0/24"},
		{"10.1.0.0/20", "10.1.0.0/23", "10.1.2.0/28", "10.1.15.240/28"},
		{"192.168.7.0/24", "192.168.7.0/27", "192.168.7.32/28", "192.168.7.240/28"},
		{"192.168.7.128/25", "192.168.7.128/28", "192.168.7.144/28", "192.168.7.240/28"},
	} {
		cidr := prefix(c.cidr)
		first, n := subnets(cidr)
		got := []netip.Prefix{resources.VirtualIPs(cidr), part(cidr, subnetBits(cidr), first), part(cidr, subnetBits(cidr), first+n-1)}
		if diff := cmp.Diff([]netip.Prefix{prefix(c.virtual), prefix(c.first), prefix(c.last)}, got, values); diff != "" {
			t.Errorf("%s (-want +got):\n%s", cidr, diff)
		}
	}
	if _, n := subnets(prefix("192.168.7.128/25")); n != 7 || room(prefix("192.168.7.144/28")) != 14 {
		t.Errorf("the smallest network has room for %d nodes of %d", n, room(prefix("192.168.7.144/28")))
	}
}

func TestFreeCIDR(t *testing.T) {
	networks := map[string]resources.NetworkRecord{}
	nodes := map[resources.NodeID]resources.NodeInfo{"n1": {Name: "one", Addresses: []string{"192.168.1.4", "10.113.0.9", "fe80::1", "nonsense"}}}
	for i := range 31 {
		cidr, err := FreeCIDR(networks, nodes)
		if err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		if clashes := Clashes("", cidr, networks, nodes); len(clashes) > 0 {
			t.Errorf("%s clashes with %v", cidr, clashes)
		}
		networks[fmt.Sprint(i)] = resources.NetworkRecord{CIDR: cidr}
	}
	if got := networks["0"].CIDR; got != prefix("10.112.0.0/16") {
		t.Errorf("the first is %s", got)
	}
	if _, err := FreeCIDR(networks, nodes); err == nil || !strings.Contains(err.Error(), "all 32 networks") || !strings.Contains(err.Error(), "`cidr`") {
		t.Errorf("the last one: %v", err)
	}
	want := []string{"network 0, 10.112.0.0/16", "node one, 10.113.0.9"}
	if diff := cmp.Diff(want, Clashes("x", prefix("10.112.0.0/15"), networks, nodes)); diff != "" {
		t.Errorf("clashes (-want +got):\n%s", diff)
	}
	if got := Clashes("0", prefix("10.112.0.0/17"), networks, nodes); len(got) > 0 {
		t.Errorf("a network clashes with itself: %v", got)
	}
}

func small(nodes ...string) Cluster {
	c := Cluster{
		Nodes:    map[resources.NodeID]resources.NodeInfo{},
		Networks: map[string]resources.NetworkRecord{"blue": {Network: resources.Network{Name: "blue"}, CIDR: prefix("10.9.0.0/25")}},
		Services: map[string]resources.ServiceRecord{}, Replicas: maps.All(map[resources.ReplicaID]*resources.Replica{}),
	}
	for _, name := range nodes {
		c.Nodes[resources.NodeID(name)] = resources.NodeInfo{ID: resources.NodeID(name), Name: name, Overlay: &resources.NodeOverlay{}}
	}
	return c
}

func onBlue(id, node string) resources.Replica {
	return resources.Replica{ID: resources.ReplicaID(id), Node: resources.NodeID(node), Template: resources.Template{Networks: []string{"blue"}}}
}

func TestRefusals(t *testing.T) {
	check := func(err error, words ...string) {
		t.Helper()
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%v does not say %q", err, word)
			}
		}
	}
	a := NewAllocator(small("n1"))
	for i := range 14 {
		if _, err := a.Addresses(onBlue(fmt.Sprint("r", i), "n1")); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.Addresses(onBlue("late", "n1"))
	check(err, "network blue is full on node n1", "all 14 addresses of 10.9.0.", "shorter prefix")

	a = NewAllocator(small("n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"))
	for i := range 7 {
		if _, err := a.Subnet("blue", resources.NodeID(fmt.Sprint("n", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	_, err = a.Addresses(onBlue("late", "n8"))
	check(err, "network blue is full", "10.9.0.0/25 has room for 7 nodes")

	service := resources.ServiceRecord{Service: resources.Service{Template: resources.Template{Networks: []string{"blue"}}}}
	for i := range 14 {
		service.Service.Name = fmt.Sprint("s", i)
		if _, err := a.VirtualIPs(service, none); err != nil {
			t.Fatal(err)
		}
	}
	_, err = a.VirtualIPs(service, none)
	check(err, "network blue is full", "all 14 virtual IPs")
	service.Service.Networks = []string{"red"}
	_, err = a.VirtualIPs(service, none)
	check(err, "there is no network red")
	if got, err := NewAllocator(Cluster{Nodes: map[resources.NodeID]resources.NodeInfo{"n1": {}}}).Addresses(onBlue("r", "n1")); got != nil || err != nil {
		t.Errorf("on a node without networks: %v, %v", got, err)
	}
}

func TestANodeThatIsGoneFreesItsSubnet(t *testing.T) {
	c := small("n1")
	record := c.Networks["blue"]
	record.Subnets = map[resources.NodeID]netip.Prefix{"n1": prefix("10.9.0.16/28"), "gone": prefix("10.9.0.32/28")}
	c.Networks["blue"] = record
	want := record
	want.Subnets = map[resources.NodeID]netip.Prefix{"n1": prefix("10.9.0.16/28")}
	if diff := cmp.Diff([]resources.NetworkRecord{want}, NewAllocator(c).Changed(), values); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if len(record.Subnets) != 2 {
		t.Error("the input was changed")
	}
}

// A virtual IP stays as long as the service needs it: on a network that it has
// left until its last replica there is gone.
func TestVirtualIPsOfAServiceThatMoves(t *testing.T) {
	c := small("n1")
	has := []resources.NetworkAddress{{Network: "red", Address: addr("10.8.0.5")}}
	record := resources.ServiceRecord{Service: resources.Service{Name: "web", Template: resources.Template{Networks: []string{"blue"}}}, VirtualIPs: has}
	old := resources.Replica{Addresses: []resources.NetworkAddress{{Network: "red", Address: addr("10.8.1.5")}}}
	both, err := NewAllocator(c).VirtualIPs(record, func() []resources.Replica { return []resources.Replica{old} })
	if err != nil || len(both) != 2 || both[0].Network != "blue" || both[1] != has[0] {
		t.Errorf("with a replica there: %v, %v", both, err)
	}
	one, err := NewAllocator(c).VirtualIPs(record, none)
	if err != nil || !cmp.Equal(one, both[:1], values) {
		t.Errorf("without: %v, %v", one, err)
	}
}

// What has just become free is given out again only once others are taken.
func TestAFreedAddressRests(t *testing.T) {
	c := small("n1")
	first, err := NewAllocator(c).Addresses(onBlue("web-0-a", "n1"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := NewAllocator(c).Addresses(onBlue("web-0-b", "n1"))
	if err != nil || next[0] == first[0] {
		t.Errorf("the next replica got %v after %v (%v)", next, first, err)
	}
}

func TestMap(t *testing.T) {
	c := small("n1", "n2", "n3")
	for id, node := range c.Nodes {
		node.Addresses, node.Overlay.PublicKey = []string{"192.168.1." + string(id[1:])}, "key of "+string(id)
		c.Nodes[id] = node
	}
	plain := resources.NodeInfo{ID: "plain", Name: "plain", Addresses: []string{"192.168.1.9"}}
	c.Nodes["plain"], c.Revision = plain, 17
	record := c.Networks["blue"]
	record.Network.Encryption, record.Network.Internal = resources.EncryptionNone, true
	record.Subnets = map[resources.NodeID]netip.Prefix{"n1": prefix("10.9.0.16/28"), "n2": prefix("10.9.0.32/28"), "n3": prefix("10.9.0.48/28")}
	c.Networks["blue"] = record
	template := resources.Template{Networks: []string{"blue"}, Ports: []resources.Port{{Target: 80, Mode: resources.PortCluster}, {Target: 81, Mode: resources.PortHost}}}
	c.Services["web"] = resources.ServiceRecord{Service: resources.Service{Name: "web", Template: template}, VirtualIPs: []resources.NetworkAddress{{Network: "blue", Address: addr("10.9.0.2")}}}
	hidden := resources.Template{Networks: []string{"blue"}}
	c.Services["db"] = resources.ServiceRecord{Service: resources.Service{Name: "db", Template: hidden}, VirtualIPs: []resources.NetworkAddress{{Network: "blue", Address: addr("10.9.0.3")}}}
	on := func(address string) []resources.NetworkAddress {
		return []resources.NetworkAddress{{Network: "blue", Address: addr(address)}}
	}
	c.Replicas = maps.All(map[resources.ReplicaID]*resources.Replica{
		"web-1": {ID: "web-1", Slot: 1, Service: "web", Node: "n2", Wanted: true, Addresses: on("10.9.0.34")},
		"web-0": {ID: "web-0", Service: "web", Node: "n1", Wanted: true, Addresses: on("10.9.0.18")},
		"web-x": {ID: "web-x", Service: "web", Node: "n1", Addresses: on("10.9.0.19")},
		"web-2": {ID: "web-2", Slot: 2, Service: "web", Node: "plain", Wanted: true},
	})
	atlas := NewAtlas(c, func(r *resources.Replica) bool { return r.ID == "web-1" })
	want := resources.NetworkMap{
		Revision: 17,
		Networks: []resources.MappedNetwork{{Name: "blue", CIDR: record.CIDR, Subnet: prefix("10.9.0.48/28"), Internal: true, Encryption: "none"}},
		Peers: []resources.Peer{
			{Node: "n1", Address: addr("192.168.1.1"), PublicKey: "key of n1", Subnets: []resources.PeerSubnet{{Network: "blue", Subnet: prefix("10.9.0.16/28")}}},
			{Node: "n2", Address: addr("192.168.1.2"), PublicKey: "key of n2", Subnets: []resources.PeerSubnet{{Network: "blue", Subnet: prefix("10.9.0.32/28")}}},
		},
		Services: []resources.MappedService{{
			Name: "web", Network: "blue", VirtualIP: addr("10.9.0.2"), Ports: template.Ports[:1],
			Replicas: []resources.MappedReplica{
				{ID: "web-0", Node: "n1", Address: addr("10.9.0.18")},
				{ID: "web-1", Slot: 1, Node: "n2", Address: addr("10.9.0.34"), Ready: true},
			},
		}},
		Nodes: []netip.Addr{addr("192.168.1.1"), addr("192.168.1.2"), addr("192.168.1.3"), addr("192.168.1.9")},
	}
	// n3 has no replica, and publishes the port all the same.
	if diff := cmp.Diff(want, atlas.Map("n3"), values); diff != "" {
		t.Errorf("the map of n3 (-want +got):\n%s", diff)
	}
	if got := atlas.Map("n1").Services; len(got) != 2 || got[0].Name != "db" {
		t.Errorf("n1, which is on the network, hears of %+v", got)
	}
	if got := atlas.Map("plain"); len(got.Networks)+len(got.Peers)+len(got.Services) > 0 || got.Revision != 17 {
		t.Errorf("a node without networks hears %+v", got)
	}
}
