// Package links makes what the packets of a node's replicas pass on: a network
// namespace for each replica, a veth between it and the node, routes, and the
// tunnels to other nodes.
//
// There is no bridge. A replica has its addresses as /32, one for each network,
// and reaches everything through its node, at a link-local address that every
// node has; the node routes each address to the veth. So what may pass is decided
// in one place (package rules), and a packet takes the same way to a replica on
// this node and on another one.
//
// Apply compares what is wanted with what the kernel has, and changes what
// differs. What is skerry's is known by its name (interfaces) or by its protocol
// number (routes); nothing else is touched.
package links

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Tunnel is WireGuard on this node.
type Tunnel interface {
	// Up makes the interface exist with these peers, and returns once it does.
	Up(ctx context.Context, peers []resources.Peer) error
	// Down removes it; an absent one is no error.
	Down(ctx context.Context) error
}

// Config is what Links are made of.
type Config struct {
	// Dir is the directory of the replicas' network namespaces: a file for each,
	// called after the replica's ID.
	Dir  string
	Node resources.NodeID
	// Underlay is the address by which other nodes reach this one.
	Underlay func() (netip.Addr, error)
	Tunnel   Tunnel
	Log      *slog.Logger
}

// Links are those of one node. They belong to one goroutine.
type Links struct {
	Config
	// attached are the replicas whose namespaces are as they should be, so that
	// nobody has to look into them again.
	attached map[resources.ReplicaID]attachment
	tunnels  tunnels
}

// New makes Links. Nothing is changed before Apply.
func New(c Config) *Links { return &Links{Config: c, attached: map[resources.ReplicaID]attachment{}} }

// Apply makes the node's links what they are to be, whole. It is idempotent.
func (l *Links) Apply(ctx context.Context, n resources.NodeNetwork) error {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of network namespaces: %w", err)
	}
	underlay, err := l.Underlay()
	if err != nil {
		return fmt.Errorf("find the address that other nodes reach: %w", err)
	}
	if err := forward(); err != nil {
		return err
	}
	if err := l.applyAddresses(n); err != nil {
		return err
	}
	carried, err := carries(underlay, n.Map.Peers)
	if err != nil {
		return err
	}
	if err := l.applyTunnels(ctx, n, underlay, carried); err != nil {
		return err
	}
	links, err := replicaLinks()
	if err != nil {
		return err
	}
	var errs []error
	wanted := map[resources.ReplicaID]bool{}
	for _, r := range n.Replicas {
		wanted[r.ID] = true
		if err := l.attach(r, n.Map.Networks, carried, links[linkName(r.ID)]); err != nil {
			errs = append(errs, fmt.Errorf("attach replica %s: %w", r.ID, err))
		}
	}
	errs = append(errs, l.detachOthers(wanted, links))
	// Routes come after the links that they lead to.
	errs = append(errs, l.applyRoutes(n))
	return errors.Join(errs...)
}

// Remove removes all that Apply made, whoever called it.
func (l *Links) Remove(ctx context.Context) error {
	l.attached, l.tunnels = map[resources.ReplicaID]attachment{}, tunnels{}
	links, err := replicaLinks()
	if err != nil {
		return err
	}
	return errors.Join(
		l.detachOthers(nil, links),
		l.applyRoutes(resources.NodeNetwork{}),
		l.Tunnel.Down(ctx), removeLink(vxlanName),
		l.removeAddresses(),
	)
}

// detachOthers removes the namespaces and veths of replicas that are not wanted.
func (l *Links) detachOthers(wanted map[resources.ReplicaID]bool, links map[string]int) error {
	files, err := os.ReadDir(l.Dir)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("list the network namespaces: %w", err)
	}
	var errs []error
	keep := map[string]bool{}
	for id := range wanted {
		keep[linkName(id)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		if !keep[name] {
			errs = append(errs, removeLink(name))
		}
	}
	for _, f := range files {
		if id := resources.ReplicaID(f.Name()); !wanted[id] {
			delete(l.attached, id)
			errs = append(errs, removeNamespace(l.path(id)))
		}
	}
	return errors.Join(errs...)
}
