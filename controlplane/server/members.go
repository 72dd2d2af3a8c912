package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/membership"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Members are the members of the store. *store.Etcd has them.
type Members interface {
	Peers(ctx context.Context) ([]store.Peer, error)
	AddLearner(ctx context.Context, address string) error
	Promote(ctx context.Context, id uint64) error
	RemovePeer(ctx context.Context, id uint64) error
}

const (
	// walkStep is how often the leader looks at a store that is not what is
	// wanted: a learner says nothing when it has caught up.
	walkStep = 500 * time.Millisecond
	// walkIdle is how often it looks otherwise.
	walkIdle = 10 * time.Second
	// joinTimeout is how long a server may take to join. Etcd catches up with
	// 2 GiB, the largest store, in a fraction of it.
	joinTimeout = 5 * time.Minute
)

// walk is how the members of the store come to be the servers that are wanted.
type walk struct {
	mu      sync.Mutex // guards all below
	waiting string
	failed  map[resources.NodeID]string
	begun   map[resources.NodeID]time.Time // when a server began to join
	news    chan struct{}                  // holds a value when the walk begins again
}

func newWalk() *walk {
	return &walk{failed: map[resources.NodeID]string{}, begun: map[resources.NodeID]time.Time{}, news: make(chan struct{}, 1)}
}

// again forgets what failed: somebody has said what is wanted. Until the leader
// has looked, it is on its way.
func (w *walk) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.failed)
	clear(w.begun)
	w.waiting = "the leader looks at the servers"
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// get tells what is waited for, and whether that comes about without anybody's
// doing.
func (w *walk) get() (waiting string, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting, len(w.failed) > 0
}

func (w *walk) wait(waiting string) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed, w.waiting = w.waiting != waiting, waiting
	return changed
}

// late gives a joining server up when it takes too long.
func (w *walk) late(id resources.NodeID, why error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun[id].IsZero() {
		w.begun[id] = now
	}
	if now.Sub(w.begun[id]) >= joinTimeout {
		w.failed[id] = fmt.Sprintf("the server on node %s did not join within %s, and was taken out again: %v", id, joinTimeout, why)
		delete(w.begun, id)
	}
}

// walkMembers walks until ctx ends.
func (s *Server) walkMembers(ctx context.Context) {
	if s.Members == nil {
		s.walk.wait("")
		return
	}
	for ctx.Err() == nil {
		_, changed := s.board.get()
		wait := retryWait
		more, err := s.walkOn(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.Log.Warn("a step towards the servers that are wanted is tried again", "err", err)
			if s.walk.wait(err.Error()) {
				s.board.touch()
			}
		case more:
			wait = walkStep
		default:
			wait = walkIdle
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-s.walk.news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// walkOn takes one step, and tells whether there is more to do.
func (s *Server) walkOn(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, NodeTimeout)
	defer cancel()
	v, err := s.look(ctx)
	if err != nil {
		return false, err
	}
	peers, err := s.Members.Peers(ctx)
	if err != nil {
		return false, err
	}
	action, waiting := membership.Plan(s.membershipInput(v, peers))
	if err := s.walkStep(ctx, v, action); err != nil {
		return true, err
	}
	if s.walk.wait(waiting) {
		s.board.touch()
		if waiting != "" {
			s.events.add("cluster/"+s.Cluster.Name, "Servers", waiting, time.Now())
		}
	}
	return waiting != "", nil
}

func (s *Server) membershipInput(v *view, peers []store.Peer) membership.Input {
	in := membership.Input{
		Wanted: v.state.Cluster.Wanted(), Self: s.Self.Node,
		Recorded: map[resources.NodeID]bool{}, Ready: map[resources.NodeID]bool{}, Failed: map[resources.NodeID]string{},
	}
	byAddress := map[string]resources.NodeID{}
	for id := range v.state.Nodes {
		in.Ready[id] = v.ready[id]
		if at, found := serverAddress(v.state, id); found {
			byAddress[at.Peer()] = id
		}
	}
	for id := range v.state.Servers {
		in.Recorded[id] = true
	}
	for _, p := range peers {
		if p.Node == "" {
			p.Node = byAddress[p.Address]
		}
		in.Peers = append(in.Peers, membership.Peer{ID: p.ID, Node: p.Node, Learner: p.Learner})
	}
	s.walk.mu.Lock()
	defer s.walk.mu.Unlock()
	maps.Copy(in.Failed, s.walk.failed)
	return in
}

// serverAddress is where a node runs a server, or would.
func serverAddress(state *store.State, id resources.NodeID) (resources.ServerAddress, bool) {
	if at, found := state.Servers[id]; found {
		return at, true
	}
	node, found := state.Nodes[id]
	if !found || len(node.Addresses) == 0 {
		return resources.ServerAddress{}, false
	}
	return resources.ServerAddress{Node: id, Host: node.Addresses[0]}, true
}

func (s *Server) walkStep(ctx context.Context, v *view, action membership.Action) error {
	switch action.Do {
	case membership.Record:
		at, found := serverAddress(v.state, action.Node)
		if !found {
			return fmt.Errorf("node %s has no address by which the other servers could reach it", action.Node)
		}
		return s.update(ctx, func(*store.State) ([]store.Change, error) { return []store.Change{store.PutServer(at)}, nil })
	case membership.Forget:
		return s.update(ctx, func(*store.State) ([]store.Change, error) {
			return []store.Change{store.DeleteServer(action.Node)}, nil
		})
	case membership.Add:
		at, found := serverAddress(v.state, action.Node)
		if !found {
			return fmt.Errorf("node %s has no address by which the other servers could reach it", action.Node)
		}
		return s.Members.AddLearner(ctx, at.Peer())
	case membership.Promote:
		err := s.Members.Promote(ctx, action.Peer)
		if err != nil {
			s.walk.late(action.Node, err, time.Now())
		}
		if errors.Is(err, store.ErrNotCaughtUp) {
			return nil
		}
		return err
	case membership.Remove:
		return s.Members.RemovePeer(ctx, action.Peer)
	case membership.Resign:
		s.leadership.resign()
	case membership.None:
	}
	return nil
}
