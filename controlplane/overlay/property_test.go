package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

var values = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// drawCluster makes a cluster whose replicas have yet to get addresses.
func drawCluster(t *rapid.T) Cluster {
	c := Cluster{Nodes: map[resources.NodeID]resources.NodeInfo{}, Networks: map[string]resources.NetworkRecord{}, Services: map[string]resources.ServiceRecord{}}
	names := []string{"default", "blue", "green"}
	for i, name := range names[:rapid.IntRange(1, 3).Draw(t, "networks")] {
		bits := rapid.SampledFrom([]int{16, 20, 22, 24, 25}).Draw(t, "bits")
		c.Networks[name] = resources.NetworkRecord{Network: resources.Network{Name: name}, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), bits)}
	}
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		id := resources.NodeID(fmt.Sprintf("n%d", i))
		c.Nodes[id] = resources.NodeInfo{ID: id, Name: string(id), Addresses: []string{fmt.Sprintf("192.168.1.%d", i)}, Overlay: &resources.NodeOverlay{PublicKey: string(id)}}
	}
	replicas := map[resources.ReplicaID]*resources.Replica{}
	c.Replicas = maps.All(replicas)
	known := slices.Sorted(maps.Keys(c.Networks))
	for i := range rapid.IntRange(0, 40).Draw(t, "services") {
		name := fmt.Sprintf("s%d", i)
		networks := rapid.SliceOfNDistinct(rapid.SampledFrom(known), 1, len(known), rapid.ID).Draw(t, "joins")
		service := resources.Service{Name: name, Template: resources.Template{Networks: networks}}
		if rapid.IntRange(0, 9).Draw(t, "publishes") == 0 {
			service.Ports = []resources.Port{{Target: 80, Published: 8000 + i, Mode: resources.PortCluster}}
		}
		c.Services[name] = resources.ServiceRecord{Service: service}
		for slot := range rapid.IntRange(0, 6).Draw(t, "replicas") {
			r := resources.Replica{
				ID: resources.ReplicaID(fmt.Sprintf("%s-%d", name, slot)), Service: name, Slot: slot, Template: service.Template,
				Node: rapid.SampledFrom(slices.Sorted(maps.Keys(c.Nodes))).Draw(t, "node"), Wanted: rapid.Bool().Draw(t, "wanted"),
			}
			replicas[r.ID] = &r
		}
	}
	return c
}

// allocate gives out all that a cluster needs, and stores it.
func allocate(c Cluster) (next Cluster, refusals []error) {
	a := NewAllocator(c)
	next = c
	next.Services = maps.Clone(c.Services)
	replicas := map[resources.ReplicaID]*resources.Replica{}
	all := maps.Collect(c.Replicas)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		r := *all[id]
		if len(r.Addresses) == 0 {
			var err error
			if r.Addresses, err = a.Addresses(r); err != nil {
				refusals = append(refusals, err)
			}
		}
		replicas[id] = &r
	}
	next.Replicas = maps.All(replicas)
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		service := c.Services[name]
		ips, err := a.VirtualIPs(service, none)
		if err != nil {
			refusals = append(refusals, err)
			continue
		}
		service.VirtualIPs = ips
		next.Services[name] = service
	}
	next.Networks = maps.Clone(c.Networks)
	for _, record := range a.Changed() {
		next.Networks[record.Network.Name] = record
	}
	return next, refusals
}

// Nobody has what somebody else has, and each has what is its part.
func TestNothingIsGivenOutTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		before := maps.Clone(c.Networks)
		next, _ := allocate(c)
		if diff := cmp.Diff(before, c.Networks, values); diff != "" {
			t.Fatalf("the input was changed:\n%s", diff)
		}
		for name, record := range next.Networks {
			checkNetwork(t, next, name, record)
		}
		again, _ := allocate(c)
		if diff := cmp.Diff(next.Networks, again.Networks, values); diff != "" {
			t.Fatalf("the same cluster gets something else:\n%s", diff)
		}
		third, _ := allocate(next)
		if diff := cmp.Diff(next.Services, third.Services, values); diff != "" {
			t.Fatalf("what has a virtual IP gets another one:\n%s", diff)
		}
	})
}

func checkNetwork(t *rapid.T, c Cluster, name string, record resources.NetworkRecord) {
	virtual := resources.VirtualIPs(record.CIDR)
	subnets := slices.Collect(maps.Values(record.Subnets))
	for i, subnet := range subnets {
		if !record.CIDR.Contains(subnet.Addr()) || subnet.Overlaps(virtual) || subnet != subnet.Masked() {
			t.Fatalf("%s has subnet %s", record.CIDR, subnet)
		}
		if slices.ContainsFunc(subnets[i+1:], subnet.Overlaps) {
			t.Fatalf("%s overlaps another of %v", subnet, subnets)
		}
	}
	taken := map[netip.Addr]string{}
	take := func(who string, address netip.Addr) {
		if taken[address] != "" {
			t.Fatalf("%s and %s have %s", taken[address], who, address)
		}
		taken[address] = who
	}
	for id, r := range c.Replicas {
		address := resources.AddressOn(name, r.Addresses)
		if !address.IsValid() {
			continue
		}
		take(string(id), address)
		subnet := record.Subnets[r.Node]
		gateway := resources.MappedNetwork{Subnet: subnet}.Gateway()
		if !subnet.Contains(address) || address == subnet.Addr() || address == gateway {
			t.Fatalf("%s has %s of %s", id, address, subnet)
		}
	}
	for service, s := range c.Services {
		if address := resources.AddressOn(name, s.VirtualIPs); address.IsValid() {
			take(service, address)
			if !virtual.Contains(address) {
				t.Fatalf("%s has virtual IP %s outside of %s", service, address, virtual)
			}
		}
	}
}

// A refusal is true: there is none where there is room.
func TestARefusalIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		next, refusals := allocate(c)
		full := false
		for name, record := range next.Networks {
			_, n := subnets(record.CIDR)
			full = full || len(record.Subnets) == n
			on := map[resources.NodeID]int{}
			for _, r := range next.Replicas {
				if resources.AddressOn(name, r.Addresses).IsValid() {
					on[r.Node]++
				}
			}
			for id, count := range on {
				full = full || count == room(record.Subnets[id])
			}
			services := 0
			for _, s := range next.Services {
				if resources.AddressOn(name, s.VirtualIPs).IsValid() {
					services++
				}
			}
			full = full || services == room(resources.VirtualIPs(record.CIDR))
		}
		if len(refusals) > 0 && !full {
			t.Fatalf("refused without need: %v", refusals)
		}
	})
}

// Each map says the same of a replica, and only nodes that need it hear of it.
func TestMapsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, _ := allocate(drawCluster(t))
		atlas := NewAtlas(c, func(r *resources.Replica) bool { return r.Slot%2 == 0 })
		for id := range c.Nodes {
			m := atlas.Map(id)
			networks := map[string]resources.MappedNetwork{}
			for _, n := range m.Networks {
				networks[n.Name] = n
			}
			for name, record := range c.Networks {
				_, on := networks[name]
				if other := slices.Contains(m.Others, record.CIDR); other == on && c.Nodes[id].Overlay != nil {
					t.Fatalf("%s is on %s: %t, and hears that it is not: %t", id, name, on, other)
				}
			}
			for _, s := range m.Services {
				if _, found := networks[s.Network]; !found {
					t.Fatalf("%s hears of %s on %s without the network", id, s.Name, s.Network)
				}
				for _, mapped := range s.Replicas {
					checkMapped(t, c, m, id, s, mapped)
				}
			}
			if !slices.IsSortedFunc(m.Peers, func(a, b resources.Peer) int { return cmpIDs(a.Node, b.Node) }) {
				t.Fatalf("peers in no order: %v", m.Peers)
			}
		}
		for _, r := range c.Replicas {
			if len(r.Addresses) > 0 && !atlas.Shows(r.Node, r) {
				t.Fatalf("the node of %s does not hear of it", r.ID)
			}
		}
	})
}

func cmpIDs(a, b resources.NodeID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// checkMapped compares a mapped replica with the stored one, and looks for the
// way to it.
func checkMapped(t *rapid.T, c Cluster, m resources.NetworkMap, id resources.NodeID, s resources.MappedService, mapped resources.MappedReplica) {
	all := maps.Collect(c.Replicas)
	r := all[mapped.ID]
	if r == nil || !r.Wanted || r.Service != s.Name || resources.AddressOn(s.Network, r.Addresses) != mapped.Address || mapped.Ready != (r.Slot%2 == 0) {
		t.Fatalf("%s is told %+v of %+v", id, mapped, r)
	}
	if mapped.Node == id {
		return
	}
	i := slices.IndexFunc(m.Peers, func(p resources.Peer) bool { return p.Node == mapped.Node })
	if i < 0 || !slices.ContainsFunc(m.Peers[i].Subnets, func(p resources.PeerSubnet) bool { return p.Subnet.Contains(mapped.Address) }) {
		t.Fatalf("%s has no way to %+v", id, mapped)
	}
}
