package store

import (
	"context"
	"sync"
)

// Memory is a Store that forgets, for tests. The zero value is empty.
type Memory struct {
	mu sync.Mutex // guards all below
	// state is what the store holds. Once Load has given it away, it is never
	// changed: the next Commit makes another one.
	state    *State
	given    bool
	watchers map[chan struct{}]struct{}
}

var _ Store = (*Memory)(nil)

// Load returns a snapshot.
func (m *Memory) Load(context.Context) (*State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given = true
	return m.present(), nil
}

// present returns what the store holds.
func (m *Memory) present() *State {
	if m.state == nil {
		m.state = newState()
	}
	return m.state
}

// next returns what the store holds, to be changed.
func (m *Memory) next() *State {
	if m.given {
		m.state, m.given = m.state.share(), false
	}
	return m.present()
}

// Commit writes the changes.
func (m *Memory) Commit(_ context.Context, from *State, changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, batch := range batches(changes) {
		for _, c := range batch {
			if m.present().version(c.key) != from.version(c.key) {
				return ErrStale
			}
		}
		if i == 0 {
			defer m.tell()
		}
		m.write(batch)
	}
	return nil
}

func (m *Memory) write(batch []Change) {
	state := m.next()
	state.Revision++
	for _, c := range batch {
		state.apply(c, state.Revision)
	}
}

// tell wakes all watchers.
func (m *Memory) tell() {
	for watcher := range m.watchers {
		wake(watcher)
	}
}

// Watch tells of changes.
func (m *Memory) Watch(ctx context.Context) <-chan struct{} {
	watcher := make(chan struct{}, 1)
	wake(watcher)
	m.mu.Lock()
	if m.watchers == nil {
		m.watchers = map[chan struct{}]struct{}{}
	}
	m.watchers[watcher] = struct{}{}
	m.mu.Unlock()
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, watcher)
	})
	return watcher
}

// wake tells a watcher, unless it has been told and has not looked yet.
func wake(watcher chan struct{}) {
	select {
	case watcher <- struct{}{}:
	default:
	}
}
