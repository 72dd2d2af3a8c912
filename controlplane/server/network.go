package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/overlay"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func networkStatus(state *store.State, name string) resources.NetworkStatus {
	record := state.Networks[name]
	return resources.NetworkStatus{Network: record.Network, CIDR: record.CIDR, Nodes: len(record.Subnets), Services: servicesOn(state, name)}
}

// servicesOn names the services that are on a network, sorted: they join it, or
// would join it again by a rollback, or a replica of theirs has yet to leave it.
func servicesOn(state *store.State, network string) []string {
	all := []string{}
	for name, record := range state.Services {
		on := slices.Contains(record.Service.Joins(), network) || resources.AddressOn(network, record.VirtualIPs).IsValid() ||
			record.Stable != nil && record.Stable.Number != record.Revision && slices.Contains(record.Stable.Template.Joins(), network)
		if on {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (s *Server) putNetwork(r *http.Request) (any, error) {
	network, err := body(r, func(x *resources.Network) string { return x.Name })
	if err != nil {
		return nil, err
	}
	var state *store.State
	err = s.relate(r.Context(), func(now *store.State) ([]store.Change, error) {
		record, err := layOut(now, network)
		if err != nil {
			return nil, err
		}
		change := store.PutNetwork(record)
		state = now.With(change)
		if old, found := now.Networks[network.Name]; found && same(old, record) {
			return nil, nil
		}
		return []store.Change{change}, nil
	})
	if err != nil {
		return nil, err
	}
	return networkStatus(state, network.Name), nil
}

// layOut gives the record of the network as it is wanted now. One that has
// addresses keeps them unless others are asked for.
func layOut(state *store.State, network resources.Network) (resources.NetworkRecord, error) {
	record, found := state.Networks[network.Name]
	record.Network = network
	if network.CIDR == "" {
		if found {
			return record, nil
		}
		var err error
		record.CIDR, err = overlay.FreeCIDR(state.Networks, state.Nodes)
		if err != nil {
			var p resources.Problems
			p.Addf("cidr", "%v", err)
			return record, api.Invalid(p)
		}
		return record, nil
	}
	cidr, err := netip.ParsePrefix(network.CIDR)
	if err != nil {
		return record, err
	}
	if found && cidr == record.CIDR {
		return record, nil
	}
	if on := servicesOn(state, network.Name); found && len(on) > 0 {
		return record, api.Errorf(http.StatusConflict, "network %s has %s, which can't become %s while services are on it: %s; let them join another network first, or remove them",
			network.Name, record.CIDR, cidr, strings.Join(on, ", "))
	}
	if clashes := overlay.Clashes(network.Name, cidr, state.Networks, state.Nodes); len(clashes) > 0 {
		var p resources.Problems
		p.Addf("cidr", "%s overlaps what the cluster has already: %s; give another one, or leave it out", cidr, strings.Join(clashes, "; "))
		return record, api.Invalid(p)
	}
	record.CIDR, record.Subnets = cidr, nil
	return record, nil
}

func (s *Server) deleteNetwork(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return nil, s.relate(r.Context(), func(state *store.State) ([]store.Change, error) {
		if _, found := state.Networks[name]; !found {
			return nil, nil
		}
		if on := servicesOn(state, name); len(on) > 0 {
			return nil, api.Errorf(http.StatusConflict, "network %s can't be removed while services are on it: %s; let them join another network first, or remove them",
				name, strings.Join(on, ", "))
		}
		return []store.Change{store.DeleteNetwork(name)}, nil
	})
}

// makeDefault makes the network of services that name none, once one of them can
// have addresses on it.
func (s *Server) makeDefault(ctx context.Context, st store.Store) error {
	s.relations.Lock()
	defer s.relations.Unlock()
	state, err := st.Load(ctx)
	if err != nil || !lacksDefault(state) {
		return err
	}
	network := resources.Network{Name: resources.DefaultNetwork}
	network.SetDefaults()
	record, err := layOut(state, network)
	if err != nil {
		return fmt.Errorf("make the network %s: %w", network.Name, err)
	}
	return st.Commit(ctx, state, []store.Change{store.PutNetwork(record)})
}

func lacksDefault(state *store.State) bool {
	_, found := state.Networks[resources.DefaultNetwork]
	return !found && networked(state) && len(servicesOn(state, resources.DefaultNetwork)) > 0
}

// networked is true where any node can be on a network.
func networked(state *store.State) bool {
	for _, node := range state.Nodes {
		if node.Overlay != nil {
			return true
		}
	}
	return false
}

// checkNetworks refuses a service on a network that is not there, or that has no
// virtual IP left for it.
func checkNetworks(state *store.State, service resources.Service) error {
	var p resources.Problems
	for i, name := range service.Networks {
		if _, found := state.Networks[name]; !found && name != resources.DefaultNetwork {
			known := slices.Sorted(maps.Keys(state.Networks))
			if !slices.Contains(known, resources.DefaultNetwork) {
				known = append(known, resources.DefaultNetwork)
				slices.Sort(known)
			}
			p.Addf(fmt.Sprintf("networks[%d]", i), "is %s, and the cluster has no network of that name, but: %s; make it a skerry_network", name, strings.Join(known, ", "))
		}
	}
	if len(p) > 0 {
		return api.Invalid(p)
	}
	record := state.Services[service.Name]
	record.Service = service
	if _, made := state.Networks[resources.DefaultNetwork]; !made && slices.Contains(service.Joins(), resources.DefaultNetwork) || !networked(state) {
		return nil
	}
	if _, err := overlay.NewAllocator(clusterOf(state)).VirtualIPs(record, func() []resources.Replica { return nil }); err != nil {
		p.Addf("networks", "%v", err)
		return api.Invalid(p)
	}
	return nil
}

// checkPorts refuses a published port that another service has on every node, or
// one on every node that another service has.
func checkPorts(state *store.State, service resources.Service) error {
	var p resources.Problems
	for i, port := range service.Ports {
		for _, name := range slices.Sorted(maps.Keys(state.Services)) {
			other := state.Services[name]
			if name == service.Name || other.Deleting {
				continue
			}
			for _, has := range other.Service.Ports {
				shared := port.Mode == resources.PortCluster || has.Mode == resources.PortCluster
				if shared && has.Node() == port.Node() && cmp.Or(has.Protocol, "tcp") == cmp.Or(port.Protocol, "tcp") {
					p.Addf(fmt.Sprintf("ports[%d].published", i), "is %d/%s, which %s; give another number", port.Node(), port.Protocol, whoHas(name, has))
				}
			}
		}
	}
	if len(p) == 0 {
		return nil
	}
	return api.Invalid(p)
}

func whoHas(service string, port resources.Port) string {
	if port.Mode == resources.PortCluster {
		return "service " + service + " publishes on every node"
	}
	return "service " + service + " publishes on the nodes of its replicas"
}

// clusterOf is what a state says to those who lay out networks.
func clusterOf(state *store.State) overlay.Cluster {
	return overlay.Cluster{
		Revision: state.Revision, Nodes: state.Nodes, Networks: state.Networks, Services: state.Services, Replicas: state.Replicas.All(),
	}
}
