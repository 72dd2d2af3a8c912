package provider

import (
	"context"
	"slices"
	"sync"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// checkNeighbours refuses machines that could not be one cluster: each node that
// joins has to reach every other one, and the others it. A member that does not
// answer holds nobody up: it may be what is to be mended.
func (c *Connections) checkNeighbours(ctx context.Context, machines []machine) error {
	infos := make([]resources.NodeInfo, len(machines))
	c.each(machines, func(i int, m machine) {
		short, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if info, err := c.machines.Agent(m.Endpoint).Node(short); err == nil {
			infos[i] = info
		}
	})
	problems := make([]resources.Problems, len(machines))
	c.each(machines, func(i int, m machine) {
		others := neighbours(infos, i)
		if len(others) == 0 {
			return
		}
		unreached, err := c.machines.Agent(m.Endpoint).Reach(ctx, others)
		if err != nil {
			if !api.IsNotImplemented(err) { // an earlier version does not try
				c.log.Warn("the node does not say which others it reaches", "node", infos[i].Name, "err", err)
			}
			return
		}
		for _, n := range unreached {
			problems[i].Addf(m.path, "node %s does not reach node %s: %s. The nodes of a cluster reach each other directly; where they are behind different NATs, "+
				"as on libvirt networks of two hypervisors, give them a bridge or a routed network, and let their firewalls pass TCP 5056 to 5058 and UDP 5059 and 4789",
				infos[i].Name, n.Name, n.Problem)
		}
	})
	return slices.Concat(problems...).Err()
}

func (c *Connections) each(machines []machine, do func(int, machine)) {
	var all sync.WaitGroup
	for i, m := range machines {
		all.Go(func() { do(i, m) })
	}
	all.Wait()
}

// neighbours are the nodes that one has to reach, where it or they are to join.
func neighbours(infos []resources.NodeInfo, of int) []resources.Neighbour {
	var all []resources.Neighbour
	for i, info := range infos {
		joins := infos[of].Cluster == "" || info.Cluster == ""
		if i == of || !joins || infos[of].ID == "" || infos[of].Alone || info.Alone || len(info.Addresses) == 0 {
			continue
		}
		all = append(all, resources.Neighbour{Node: info.ID, Name: info.Name, Address: info.Addresses[0]})
	}
	return all
}
