package rules

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// BenchmarkApply is one replica of 5,000, of 500 services, that leaves the rotation
// and comes back.
func BenchmarkApply(b *testing.B) {
	n := largeNode()
	var f Firewall
	host := newNamespace(b, "bench")
	apply := func(b *testing.B, before func()) {
		host.do(b, func() error {
			for b.Loop() {
				before()
				if err := f.Apply(b.Context(), n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	b.Run("first", func(b *testing.B) {
		apply(b, func() {
			if err := f.Remove(b.Context()); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("restart", func(b *testing.B) { apply(b, func() { f = Firewall{} }) })
	b.Run("change", func(b *testing.B) { apply(b, func() { flip(&n) }) })
	b.Run("same", func(b *testing.B) { apply(b, func() {}) })
}

func flip(n *resources.NodeNetwork) {
	r := &n.Map.Services[250].Replicas[3]
	r.Ready = !r.Ready
}

// largeNode is a node of the size that the project's figures are for: 500
// services, each with a published port and 10 replicas, on two networks.
func largeNode() resources.NodeNetwork {
	var n resources.NodeNetwork
	for i := range 2 {
		n.Map.Networks = append(n.Map.Networks, resources.MappedNetwork{
			Name:       fmt.Sprintf("network%d", i),
			CIDR:       netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(40 + i), 0, 0}), 16),
			Subnet:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(40 + i), 32, 0}), 24),
			Encryption: resources.EncryptionWireGuard,
		})
	}
	for i := range 500 {
		s := resources.MappedService{
			Name: fmt.Sprintf("service%d", i), Network: fmt.Sprintf("network%d", i%2),
			VirtualIP: netip.AddrFrom4([4]byte{10, byte(40 + i%2), byte(i / 250), byte(i % 250)}),
			Ports:     []resources.Port{{Target: 80, Published: 10000 + i, Protocol: "tcp", Mode: resources.PortCluster}},
		}
		for j := range 10 {
			address := netip.AddrFrom4([4]byte{10, byte(40 + i%2), byte(32 + j), byte(2 + i/2)})
			id := resources.ReplicaID(fmt.Sprintf("service%d-%d", i, j))
			s.Replicas = append(s.Replicas, resources.MappedReplica{ID: id, Slot: j, Address: address, Ready: true})
			if j == 0 {
				n.Replicas = append(n.Replicas, resources.LocalReplica{ID: id, Addresses: []resources.NetworkAddress{{Network: s.Network, Address: address}}})
			}
		}
		n.Map.Services = append(n.Map.Services, s)
	}
	return n
}
