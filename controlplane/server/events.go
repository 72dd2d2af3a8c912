package server

import (
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// maxEvents is how many events are kept: what a person reads, not an archive.
const maxEvents = 500

// events keeps the last events, and counts those that repeat.
type events struct {
	mu  sync.Mutex // guards all
	all []resources.Event
}

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
}

func (e *events) list() []resources.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]resources.Event{}, e.all...)
}
