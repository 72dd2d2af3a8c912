package agent

import (
	"context"
	"fmt"
	"reflect"
	"time"

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
	ended := make(chan error, 1)
	go func() {
		ended <- a.Server.WatchAssignment(ctx, info.ID, a.assign)
	}()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		if err := a.report(ctx, info.ID); err != nil {
			cancel()
			<-ended //nolint:errcheck // the first error counts
			return err
		}
		a.compareClocks()
		select {
		case err := <-ended:
			return err
		case <-a.loop.news:
		case <-tick.C:
			// What the machine has may change while it runs.
			if now, err := a.Info(); err == nil && !reflect.DeepEqual(now, info) {
				info = now
				if err := a.register(ctx, info); err != nil {
					cancel()
					<-ended //nolint:errcheck // the first error counts
					return err
				}
			}
		}
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
	return a.Server.PutStatus(ctx, id, a.loop.statuses())
}

// assign takes assignments, and keeps them for a start without a server.
func (a *Agent) assign(said resources.Assignment) {
	if err := writeFile(a.path(assignmentsFile), said); err != nil {
		a.Log.Error("the assignments are not kept for a restart without a server", "err", err)
	}
	a.loop.assign(said.Replicas)
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
