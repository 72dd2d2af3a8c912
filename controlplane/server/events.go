package server

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// maxEvents is how many events are kept: what a person reads, not an archive.
const maxEvents = 500

// events keeps the last events, and counts those that repeat.
type events struct {
	mu      sync.Mutex // guards both
	all     []resources.Event
	changed chan struct{} // closed when there are others
}

func newEvents() *events { return &events{changed: make(chan struct{})} }

func (e *events) add(object, reason, message string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := func(old resources.Event) bool {
		return old.Object == object && old.Reason == reason && old.Message == message
	}
	count := 1
	if i := slices.IndexFunc(e.all, same); i >= 0 {
		count += e.all[i].Count
		e.all = slices.Delete(e.all, i, i+1)
	}
	e.all = append(e.all, resources.Event{Time: now.UTC(), Object: object, Reason: reason, Message: message, Count: count})
	if len(e.all) > maxEvents {
		e.all = slices.Delete(e.all, 0, len(e.all)-maxEvents)
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

// list gives the events, the oldest first, and a channel that is closed when
// there are others.
func (e *events) list() ([]resources.Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]resources.Event{}, e.all...), e.changed
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	if api.Wanted(r) {
		api.Watch(w, r, func() (any, <-chan struct{}) { return s.events.list() })
		return
	}
	api.Handler(func(*http.Request) (any, error) {
		all, _ := s.events.list()
		return all, nil
	}).ServeHTTP(w, r)
}
