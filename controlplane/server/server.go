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
	"log/slog"
	"net/http"
	"time"

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

// Resolver gives the digest of what a reference names in its registry now.
type Resolver func(ctx context.Context, reference string) (digest string, err error)

// Config is what a Server is made of.
type Config struct {
	Cluster resources.ClusterConfig
	Store   store.Store
	Images  Images
	Resolve Resolver
	Log     *slog.Logger
}

// NodeTimeout is how long a node may be silent before it counts as not ready:
// three heartbeats.
const NodeTimeout = 3 * Heartbeat

// retryWait is how long the leader waits after a step that failed.
const retryWait = time.Second

// Heartbeat is how often an agent reports, at least.
const Heartbeat = 5 * time.Second

// Server is one server of the control plane.
type Server struct {
	Config
	reports *reports
	board   *board
	events  *events
}

// New makes a server. It does nothing before Run.
func New(c Config) *Server {
	r := newReports()
	return &Server{Config: c, reports: r, board: newBoard(r), events: &events{}}
}

// Run leads until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	s.reports.lead(time.Now())
	changed := s.Store.Watch(ctx)
	silence := time.NewTimer(NodeTimeout)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-s.reports.news:
		case <-silence.C:
		}
		next := s.reports.nextSilence(time.Now())
		if err := s.lead(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the leader's step was not carried out, and is tried again", "err", err)
			next = min(next, retryWait)
		}
		silence.Reset(next)
	}
}

// lead takes one step from one snapshot.
func (s *Server) lead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, NodeTimeout)
	defer cancel()
	state, err := s.Store.Load(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	s.board.put(state, now)
	if !s.reports.complete(state, now) {
		return nil
	}
	changes := decide(s.reports.view(state, now), now)
	if len(changes) == 0 {
		return nil
	}
	if err := s.Store.Commit(ctx, state, changes); err != nil && !errors.Is(err, store.ErrStale) {
		return fmt.Errorf("carry out %d decisions: %w", len(changes), err)
	}
	for _, c := range changes {
		s.Log.Debug("decided", "change", c.Key())
	}
	return nil
}
