package rules

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSpread: each replica gets its share of the buckets, and when one goes, most
// clients of the others stay where they are.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addresses := make([]netip.Addr, rapid.IntRange(2, 20).Draw(t, "replicas"))
		at := rapid.Uint16().Draw(t, "subnet")
		for i := range addresses {
			addresses[i] = netip.AddrFrom4([4]byte{10, byte(at >> 8), byte(at), byte(i + 2)})
		}
		all := spread(addresses)
		share := map[netip.Addr]int{}
		for _, a := range all {
			share[a]++
		}
		for _, a := range addresses {
			if got, least := share[a], buckets/len(addresses); got != least && got != least+1 {
				t.Errorf("%s of %d has %d buckets of %d", a, len(addresses), got, buckets)
			}
		}
		gone := rapid.IntRange(0, len(addresses)-1).Draw(t, "gone")
		moved := 0
		for i, a := range spread(slices.Delete(slices.Clone(addresses), gone, gone+1)) {
			if all[i] != addresses[gone] && all[i] != a {
				moved++
			}
		}
		if moved > buckets/3 {
			t.Errorf("%d of %d buckets moved without need, of %d replicas", moved, buckets, len(addresses))
		}
	})
}
