// Package server is the control plane: it serves the API, and its leader makes
// the cluster what the API was told.
//
// The leader is one loop. Events only wake it: a change in the store, a report
// of an agent, the moment at which a silent node counts as lost. It takes a
// snapshot, asks the planners what to do, and commits that from the snapshot,
// so that what an old snapshot led to is dropped. What it saw last stands on a
// board, from which every read and every watch is answered.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/seal"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Images is the cluster's own registry.
type Images interface {
	http.Handler
	// Has tells whether the registry holds the image.
	Has(ctx context.Context, name, digest string) (bool, error)
	// Delete removes the image, and what no other image needs.
	Delete(ctx context.Context, name, digest string) error
}

// Resolver gives the digest of what a reference names in its registry now, with how
// registries are reached, by host.
type Resolver func(ctx context.Context, reference string, registries map[string]Access) (digest string, err error)

// Config is what a Server is made of.
type Config struct {
	Cluster resources.ClusterConfig
	// Self is this server.
	Self  resources.ServerAddress
	Store store.Store
	// Snapshot writes all that the store holds.
	Snapshot func(ctx context.Context, w io.Writer) error
	Images   Images
	Resolve  Resolver
	Log      *slog.Logger
	// Keys are what secrets are sealed with; New makes a ring in memory where it is
	// nil.
	Keys *seal.Ring
	// The rest is nil for a server that stays alone.
	Election Election
	Members  Members
	// Authority signs the certificates of nodes.
	Authority *pki.Authority
	// Fetch reads a page of metrics outside the cluster; nil for plain HTTP.
	Fetch func(ctx context.Context, address string) (exposition.Page, error)
	// Ticks tells the time with each Pulse, while the process runs; nil for a
	// ticker of its own.
	Ticks <-chan time.Time
	// Dial connects to another server.
	Dial func(ctx context.Context, to resources.ServerAddress) (net.Conn, error)
	// DialAgent connects to the agent of a node.
	DialAgent func(ctx context.Context, node resources.NodeInfo) (net.Conn, error)
}

const (
	// NodeTimeout is how long a node may be silent before it counts as lost, and
	// its replicas are placed elsewhere: three heartbeats, and a second for the
	// way.
	NodeTimeout = 10 * time.Second
	// manyLost is how much longer the leader waits where more than half of the
	// nodes fall silent at once. It may be the leader who is cut off, or a switch
	// that restarts; and the rest could hardly take everything.
	manyLost = time.Minute
)

// retryWait is how long the leader waits after a step that failed.
const retryWait = time.Second

// Heartbeat is how often an agent reports, at least.
const Heartbeat = 3 * time.Second

// Server is one server of the control plane.
type Server struct {
	Config
	reports    *reports
	board      *board
	events     *events
	leadership *leadership
	walk       *walk
	measures   *measures
	scaler     *scaler

	fetching sync.Mutex // held while an image is fetched
	rotating sync.Mutex // held while the sealing key is changed
	// relations is held while what has to fit to other things is compared with them
	// and written: the store itself compares only what is written.
	relations sync.Mutex

	mu         sync.Mutex // guards transports
	transports map[resources.ServerAddress]*http.Transport
}

// New makes a server. It does nothing before Run.
func New(c Config) *Server {
	r := newReports()
	if c.Keys == nil {
		c.Keys = seal.NewRing()
	}
	s := &Server{
		Config: c, reports: r, board: newBoard(r), events: newEvents(), leadership: newLeadership(), walk: newWalk(), measures: newMeasures(), scaler: newScaler(),
		transports: map[resources.ServerAddress]*http.Transport{},
	}
	if s.Fetch == nil {
		s.Fetch = func(ctx context.Context, address string) (exposition.Page, error) {
			return exposition.Fetch(ctx, http.DefaultClient, address)
		}
	}
	s.measures.registry.MustRegister(s.states())
	return s
}

// rule leads until ctx ends. It commits to st, which refuses what comes too
// late.
func (s *Server) rule(ctx context.Context, st store.Store) {
	began := time.Now()
	s.reports.lead(began)
	s.scaler.lead(began)
	s.leadership.decide(st)
	defer s.leadership.end()
	for ctx.Err() == nil {
		err := s.found(ctx)
		if err == nil {
			break
		}
		s.Log.Error("the leader's first step was not carried out, and is tried again", "err", err)
		pause(ctx, retryWait)
	}
	s.leadership.begin(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { s.walkMembers(ctx) })
	beside.Go(func() { s.keepKeys(ctx) })
	beside.Go(func() { s.readOutside(ctx) })
	var told silence
	changed := s.Store.Watch(ctx)
	silence := time.NewTimer(NodeTimeout)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-s.reports.news:
		case <-silence.C:
		}
		// What is measured from here keeps its pace where the clock is set.
		now := began.Add(time.Since(began))
		next := s.reports.nextSilence(now)
		wake, err := s.lead(ctx, st, now, &told)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("the leader's step was not carried out, and is tried again", "err", err)
			next = min(next, retryWait)
		}
		if !wake.IsZero() {
			next = min(next, wake.Sub(now))
		}
		silence.Reset(next)
	}
}

// lead takes one step from one snapshot, and says when the next is due though
// nothing changes.
func (s *Server) lead(ctx context.Context, st store.Store, now time.Time, told *silence) (wake time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, NodeTimeout)
	defer cancel()
	state, err := s.Store.Load(ctx)
	if err != nil {
		return wake, err
	}
	s.board.put(state, now)
	if !s.reports.complete(state, now) {
		return wake, nil
	}
	if lacksDefault(state) {
		if err := s.makeDefault(ctx, st); err != nil && !errors.Is(err, store.ErrStale) && !errors.Is(err, store.ErrNotLeader) {
			s.Log.Error("services on the default network wait", "err", err)
		} else {
			return now, nil
		}
	}
	v, began := s.reports.view(state, now), time.Now()
	for _, e := range told.tell(v, s.Cluster.Name) {
		s.events.add(e.Object, e.Reason, e.Message, now)
	}
	v.scaling, wake = s.scaler.plan(v)
	d := decide(v)
	s.measures.decisions.Observe(time.Since(began).Seconds())
	d.wakeBy(wake)
	if len(d.changes) == 0 {
		s.scaled(v, d)
		return d.wake, nil
	}
	switch err := s.measures.committed("leader", st.Commit(ctx, state, d.changes)); {
	case errors.Is(err, store.ErrStale), errors.Is(err, store.ErrNotLeader):
		return d.wake, nil
	case err != nil:
		return d.wake, fmt.Errorf("carry out %d decisions: %w", len(d.changes), err)
	}
	s.scaled(v, d)
	for _, c := range d.changes {
		s.Log.Debug("decided", "change", c.Key())
	}
	s.measures.placements.Add(float64(d.placed))
	s.measures.refusals.Add(float64(d.refused))
	for _, e := range d.told {
		s.events.add(e.Object, e.Reason, e.Message, now)
	}
	if state.Cluster.Rebalance > 0 && d.state.Cluster.Rebalance == 0 {
		s.events.add("cluster/"+s.Cluster.Name, "Rebalanced", "no further replica moves", now)
	}
	return d.wake, nil
}

// found makes this server the first of its cluster, where there is none yet.
func (s *Server) found(ctx context.Context) error {
	return s.update(ctx, func(state *store.State) ([]store.Change, error) {
		if len(state.Servers) > 0 {
			return nil, nil
		}
		record := state.Cluster
		record.Servers = []resources.NodeID{s.Self.Node}
		if !slices.Contains(record.Nodes, s.Self.Node) {
			record.Nodes = append(slices.Clone(record.Nodes), s.Self.Node)
		}
		return []store.Change{store.PutServer(s.Self), store.PutCluster(record)}, nil
	})
}
