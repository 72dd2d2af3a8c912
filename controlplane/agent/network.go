package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Network is the node's part of the cluster's networks, in the kernel and beside
// it.
type Network interface {
	// Overlay is what other nodes have to know of this one.
	Overlay() resources.NodeOverlay
	// Apply makes the networks what they are to be, whole. It can be repeated, and
	// changes nothing that is right already.
	Apply(ctx context.Context, n resources.NodeNetwork) error
	// Obstacle says what of the machine's own keeps packets from replicas, and what
	// to do about it; nothing where nothing does.
	Obstacle(ctx context.Context) (string, error)
	// Remove removes all that Apply ever made.
	Remove(ctx context.Context) error
}

const (
	// networkPatience is how long a replica waits for its networks until that is
	// told as a failure.
	networkPatience = 10 * time.Second
	// applyTimeout bounds one Apply: it is some calls of the kernel.
	applyTimeout = 30 * time.Second
	// leavePatience is how long a replica that has to stop is left running while
	// some node may still send it connections. Nodes learn of it within a second;
	// one that takes longer is about to count as lost.
	leavePatience = 5 * time.Second
	// obstacleInterval is how often the machine's packet filter is looked at, which
	// takes nft some milliseconds.
	obstacleInterval = time.Minute
)

// networks makes the node's networks what the control plane's map and the
// replicas on the node ask for. One goroutine does it; whatever changes only
// wakes it.
type networks struct {
	network Network
	log     *slog.Logger
	wake    chan struct{}
	say     func(obstacle string)
	news    chan<- struct{} // gets a value when another map was applied

	applying sync.Mutex // held by whoever changes the kernel

	mu     sync.Mutex // guards all below
	wanted resources.NodeNetwork
	// mapped and listed are true once the halves of wanted are known: nothing is
	// taken down for what nobody has said yet.
	mapped, listed bool
	// done is what was applied last, and failure why the last attempt did not.
	done    resources.NodeNetwork
	failure error
	turned  chan struct{} // closed and renewed with each attempt
}

func newNetworks(network Network, say func(obstacle string), log *slog.Logger, news chan<- struct{}) *networks {
	return &networks{network: network, say: say, log: log, wake: make(chan struct{}, 1), news: news, turned: make(chan struct{})}
}

func (n *networks) rouse() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// follow takes the map of the cluster's networks.
func (n *networks) follow(m resources.NetworkMap) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted.Map, n.mapped = m, true
	n.rouse()
}

// list takes the replicas on the node.
func (n *networks) list(local []resources.LocalReplica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listed && reflect.DeepEqual(n.wanted.Replicas, local) {
		return
	}
	n.wanted.Replicas, n.listed = local, true
	n.rouse()
}

// revision is that of the map which was applied last; zero before any was.
func (n *networks) revision() int64 {
	if n == nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done.Map.Revision
}

// run applies what is wanted until ctx ends, and again where that failed.
func (n *networks) run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	look := time.NewTicker(obstacleInterval)
	defer look.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-retry.C:
		case <-look.C:
			n.look(ctx)
			continue
		}
		if err := n.apply(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("the node's networks are not what they should be, and that is tried again", "err", err)
			retry.Reset(afterFailure)
		}
		if first && n.revision() > 0 {
			first = false
			n.look(ctx)
		}
	}
}

// look looks for what keeps packets from replicas, on a node that has networks.
func (n *networks) look(ctx context.Context) {
	if n.revision() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	obstacle, err := n.network.Obstacle(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Warn("nobody knows whether the machine's packet filter lets replicas' packets pass", "err", err)
		}
		return
	}
	n.say(obstacle)
}

// apply applies what is wanted, if that is known.
func (n *networks) apply(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.mu.Lock()
	wanted, known := n.wanted, n.mapped && n.listed
	n.mu.Unlock()
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	err := n.network.Apply(ctx, wanted)
	n.applied(wanted, err)
	return err
}

func (n *networks) applied(what resources.NodeNetwork, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failure = err
	if err == nil {
		if what.Map.Revision != n.done.Map.Revision {
			select {
			case n.news <- struct{}{}:
			default:
			}
		}
		n.done = what
	}
	close(n.turned)
	n.turned = make(chan struct{})
}

// await returns once a replica's container can be on its networks.
func (n *networks) await(ctx context.Context, r resources.Replica) error {
	if len(r.Addresses) == 0 {
		return nil
	}
	if n == nil {
		return errors.New("join the replica's networks: this node can't be on any")
	}
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	for {
		n.mu.Lock()
		missing, failure, turned := n.missing(r), n.failure, n.turned
		n.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if failure != nil {
				missing = failure.Error()
			}
			return fmt.Errorf("join the replica's networks: %s", missing)
		case <-turned:
		}
	}
}

// missing says what a replica's networks lack yet. n.mu is held.
func (n *networks) missing(r resources.Replica) string {
	for _, a := range r.Addresses {
		if !slices.ContainsFunc(n.done.Map.Networks, func(m resources.MappedNetwork) bool { return m.Name == a.Network }) {
			return fmt.Sprintf("the control plane has not told this node of network %s yet", a.Network)
		}
	}
	if !slices.ContainsFunc(n.done.Replicas, func(l resources.LocalReplica) bool { return l.ID == r.ID }) {
		return "its network namespace is being made"
	}
	return ""
}

// leave removes all that was made, once the node is in no cluster. What was told
// before does not come back.
func (n *networks) leave(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted, n.done, n.mapped = resources.NodeNetwork{}, resources.NodeNetwork{}, false
	if err := n.network.Remove(ctx); err != nil {
		return fmt.Errorf("leave the cluster's networks: %w", err)
	}
	return nil
}

// local are the replicas that the node's networks have to know of: those that
// have an address, until nothing is left of them.
func (l *loop) local() []resources.LocalReplica {
	all := []resources.LocalReplica{}
	for id, u := range l.units {
		if len(u.replica.Addresses) == 0 || u.status.State == resources.ReplicaGone {
			continue
		}
		one := resources.LocalReplica{ID: id, Addresses: u.replica.Addresses}
		for _, p := range u.replica.Template.Ports {
			if p.Mode != resources.PortCluster && u.replica.Wanted {
				one.Ports = append(one.Ports, p)
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b resources.LocalReplica) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
