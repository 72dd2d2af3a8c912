package rules

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// affinitySeed makes jhash give one client the same bucket on every node, and after
// every change of the table; the kernel takes a random one unless given.
const affinitySeed = "0x736b6572"

// buckets is how many kinds of clients affinity knows, each of which has a replica.
// It is prime, as the table of buckets needs, and some ten times what a service
// usually has of replicas, so that each gets about as many clients.
const buckets = 127

// pick is the expression that chooses one of the addresses for a new connection.
func pick(addresses []netip.Addr, affinity string) string {
	if len(addresses) == 1 {
		return addresses[0].String()
	}
	choice, from := fmt.Sprintf("numgen random mod %d", len(addresses)), addresses
	if affinity == resources.AffinityClientIP {
		choice, from = fmt.Sprintf("jhash ip saddr mod %d seed %s", buckets, affinitySeed), spread(addresses)
	}
	all := make([]string, len(from))
	for i, a := range from {
		all[i] = fmt.Sprintf("%d : %s", i, a)
	}
	return choice + " map { " + strings.Join(all, ", ") + " }"
}

// spread gives each bucket an address, and each address about as many buckets. When
// an address comes or goes, few clients but those that have to move get another.
//
// It is the table of Eisenbud et al., Maglev: A Fast and Reliable Software Network
// Load Balancer, section 3.4: every address has an order of its own of the buckets,
// and in turn takes its first that is free.
func spread(addresses []netip.Addr) []netip.Addr {
	type order struct{ next, step uint64 }
	orders := make([]order, len(addresses))
	for i, a := range addresses {
		h := fnv.New64a()
		h.Write(a.AsSlice())
		sum := h.Sum64()
		orders[i] = order{sum % buckets, sum>>32%(buckets-1) + 1}
	}
	table := make([]netip.Addr, buckets)
	for taken := range buckets {
		i := taken % len(addresses)
		o := &orders[i]
		for table[o.next].IsValid() {
			o.next = (o.next + o.step) % buckets
		}
		table[o.next] = addresses[i]
	}
	return table
}
