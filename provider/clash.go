package provider

import (
	"cmp"
	"slices"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// What follows says which resources can't be made under another name while the
// old one is there. Whether they keep their name is looked at elsewhere.

// sameMachines is true where two clusters want a machine: it is in one only.
func sameMachines(p *definition.Planning[Cluster]) bool {
	was := slices.Concat(p.Prior.Servers, p.Prior.Workers)
	return !p.Known("servers") || !p.Known("workers") ||
		slices.ContainsFunc(slices.Concat(p.Planned.Servers, p.Planned.Workers), func(e string) bool { return slices.Contains(was, e) })
}

// samePorts is true where two services publish a port of the nodes.
func samePorts(p *definition.Planning[Service]) bool {
	return !p.Known("ports") || slices.ContainsFunc(p.Planned.Ports, func(port resources.Port) bool {
		return slices.ContainsFunc(p.Prior.Ports, func(was resources.Port) bool {
			return published(was) == published(port) && was.Protocol == port.Protocol
		})
	})
}

func published(p resources.Port) int { return cmp.Or(p.Published, p.Target) }

// sameAddress is true where two nodes have a static address.
func sameAddress(p *definition.Planning[Node]) bool {
	return !p.Known("networks") || slices.ContainsFunc(p.Planned.Networks, func(a resources.Attachment) bool {
		return a.Address != "" && slices.ContainsFunc(p.Prior.Networks, func(was resources.Attachment) bool { return was.Address == a.Address })
	})
}
