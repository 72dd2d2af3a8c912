package store

import (
	"context"
	"sync"
)

// Memory is a Store that forgets, for tests. The zero value is empty.
type Memory struct {
	mu       sync.Mutex // guards all below
	values   map[string][]byte
	versions map[string]int64
	clock    int64
	watchers map[chan struct{}]struct{}
}

var _ Store = (*Memory)(nil)

// Load returns a snapshot.
func (m *Memory) Load(context.Context) (*State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	state := newState()
	state.Revision = m.clock
	for key, value := range m.values {
		if err := state.add(key, value, m.versions[key]); err != nil {
			return nil, err
		}
	}
	return state, nil
}

// Commit writes the changes.
func (m *Memory) Commit(_ context.Context, from *State, changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, batch := range batches(changes, BatchSize) {
		for _, c := range batch {
			if m.versions[c.key] != from.versions[c.key] {
				return ErrStale
			}
		}
		if m.values == nil {
			m.values, m.versions = map[string][]byte{}, map[string]int64{}
		}
		m.clock++
		for _, c := range batch {
			if c.value == nil {
				delete(m.values, c.key)
				delete(m.versions, c.key)
				continue
			}
			text, err := c.encode()
			if err != nil {
				return err
			}
			m.values[c.key], m.versions[c.key] = text, m.clock
		}
	}
	for watcher := range m.watchers {
		wake(watcher)
	}
	return nil
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
