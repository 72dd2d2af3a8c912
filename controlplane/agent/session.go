package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// Waits between attempts to reach a server. The longest is a heartbeat, so that
// a node whose way to the servers is mended is told by then what to stop.
const (
	firstWait = 200 * time.Millisecond
	longWait  = heartbeat
)

// How long a call may take. A server that lost its power says nothing, and TCP
// alone takes minutes to notice, and as long again to try a mended way. A report
// is answered from memory; one that is not leaves the time to find another server
// before the node counts as lost.
const (
	reportPatience   = heartbeat
	registerPatience = 10 * time.Second
)

// heartbeat is how often an agent reports when nothing has changed. The server
// counts three missing ones as a lost node.
const heartbeat = 3 * time.Second

// session keeps the node registered, its assignments fresh and its status
// reported, for as long as it belongs to a cluster. It ends with ctx.
func (a *Agent) session(ctx context.Context) {
	wait := firstWait
	a.pulse(ctx)
	for ctx.Err() == nil {
		changed := a.change()
		a.mu.Lock()
		member := a.cluster.ID != "" && !a.left
		a.mu.Unlock()
		if !member {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		began := time.Now()
		if err := a.askPodman(ctx); err != nil {
			a.Log.Error("the node stays away from its cluster until Podman answers", "err", err)
		} else if err := a.attend(ctx, changed); err != nil && ctx.Err() == nil {
			a.Log.Info("the control plane does not answer; the node goes on with what it knows", "err", err)
		}
		if time.Since(began) > longWait {
			wait = firstWait
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
		wait = min(2*wait, longWait)
	}
}

// pulse tells that the agent is back, before it has asked Podman for anything,
// which takes seconds on a machine that is slow: a node counts as lost where its
// agent is silent for a few.
func (a *Agent) pulse(ctx context.Context) {
	a.mu.Lock()
	id, member := a.node.ID, a.cluster.ID != "" && !a.left
	a.mu.Unlock()
	if !member {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	if err := a.Server.Pulse(ctx, id); err != nil && ctx.Err() == nil {
		a.Log.Debug("nobody hears that the agent is back", "err", err)
	}
}

// askPodman finds out which Podman the node has, unless it is known. Only a node
// of a cluster needs it, which spares the start of Podman in the boot of a node.
func (a *Agent) askPodman(ctx context.Context) error {
	a.mu.Lock()
	known := a.podman != ""
	a.mu.Unlock()
	if known {
		return nil
	}
	version, err := a.Runtime.Version(ctx)
	if err != nil {
		return fmt.Errorf("ask Podman for its version: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.podman = version
	return nil
}

// attend is one session: it ends when the server stops answering, or when the
// node or its cluster changes.
func (a *Agent) attend(ctx context.Context, changed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	info, err := a.Info()
	if err != nil {
		return err
	}
	if err := a.register(ctx, info); err != nil {
		return err
	}
	ended := a.watch(ctx, info.ID)
	// Who has not looked yet would take replicas that run out of service.
	select {
	case <-a.loop.looked:
	case err := <-ended:
		cancel()
		drain(ended)
		return err
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		if err := a.report(ctx, info.ID); err != nil {
			cancel()
			drain(ended)
			return err
		}
		a.compareClocks()
		select {
		case err := <-ended:
			cancel()
			drain(ended)
			return err
		case <-a.loop.news:
		case <-tick.C:
			// What the machine has may change while it runs.
			if now, err := a.Info(); err == nil && !reflect.DeepEqual(now, info) {
				info = now
				if err := a.register(ctx, info); err != nil {
					cancel()
					drain(ended)
					return err
				}
			}
		}
	}
}

// watch takes what the control plane says of this node until ctx ends. The first
// watch that ends says why, and the channel is closed with the last.
func (a *Agent) watch(ctx context.Context, id resources.NodeID) <-chan error {
	watches := []func() error{
		func() error { return a.Server.WatchAssignment(ctx, id, a.assign) },
	}
	if a.loop.networks != nil {
		watches = append(watches, func() error {
			err := a.Server.WatchNetwork(ctx, id, a.connect)
			if api.IsNotImplemented(err) { // an earlier version leads, which has no networks
				<-ctx.Done()
			}
			return err
		})
	}
	ended := make(chan error, len(watches))
	var all sync.WaitGroup
	for _, one := range watches {
		all.Go(func() { ended <- one() })
	}
	go func() { all.Wait(); close(ended) }()
	return ended
}

// drain waits until the watches have ended.
func drain(ended <-chan error) {
	for range ended {
	}
}

func (a *Agent) register(ctx context.Context, info resources.NodeInfo) error {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	return a.Server.PutNode(ctx, info)
}

func (a *Agent) report(ctx context.Context, id resources.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	return a.Server.PutStatus(ctx, id, a.loop.statuses(), a.loop.networks.revision())
}

// assign takes assignments, and keeps them for a start without a server.
func (a *Agent) assign(said resources.Assignment) {
	kept, err := a.cached(said)
	if err == nil {
		err = writeFile(a.path(assignmentsFile), kept)
	}
	if err != nil {
		a.Log.Error("the assignments are not kept for a restart without a server", "err", err)
	}
	a.settleRegistries(said)
	a.loop.assign(said)
	for {
		select {
		case a.said <- said:
			return
		default:
		}
		select {
		case <-a.said: // the newer one counts
		default:
		}
	}
}

// settleRegistries makes the runtime reach registries as it is said.
func (a *Agent) settleRegistries(said resources.Assignment) {
	if a.Registries == nil {
		return
	}
	if err := a.Registries.PutRegistries(said.Registries); err != nil {
		a.Log.Error("images may not be found, since the settings of their registries are not carried out", "err", err)
	}
}

// connect takes the map of the cluster's networks, and keeps it like assign does.
func (a *Agent) connect(m resources.NetworkMap) {
	if err := writeFile(a.path(networkFile), m); err != nil {
		a.Log.Error("the map of the networks is not kept for a restart without a server", "err", err)
	}
	a.loop.networks.follow(m)
}

// knownNetwork takes the map that was kept.
func (a *Agent) knownNetwork() {
	var m resources.NetworkMap
	switch err := readFile(a.path(networkFile), &m); {
	case err == nil:
		a.loop.networks.follow(m)
	case !errors.Is(err, ErrNoFile):
		a.Log.Warn("the last known map of the networks can't be read; the server is asked", "err", err)
	}
}

// followAll does what the control plane says of itself, the latest only, and
// again where it was not done.
func (a *Agent) followAll(ctx context.Context) {
	var said resources.Assignment
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case said = <-a.said:
		case <-again:
		}
		again = nil
		if err := a.follow(ctx, said); err != nil && ctx.Err() == nil {
			a.Log.Warn("what the control plane says is tried again", "err", err)
			again = time.After(longWait)
		}
	}
}
