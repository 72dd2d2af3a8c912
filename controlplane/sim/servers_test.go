package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/controlplane/store"
)

// members is the store of all servers. Each reaches it while a majority of them
// runs and is reached, as an etcd's member does.
type members struct {
	store.Memory
	network *network
	servers func() []*machine

	mu      sync.Mutex // guards all below
	changed chan struct{}
	// lost counts the commits that are to be done without an answer.
	lost int
}

// lease is how long a leader may be missed, as in package store.
const lease = 5 * time.Second

// fault wakes whoever waits for the servers to get on.
func (s *members) fault() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// lose makes that many more commits succeed without an answer.
func (s *members) lose(commits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += commits
}

// majority is true where a server can get something agreed.
func (s *members) majority(m *machine) bool {
	all, with := s.servers(), 0
	for _, other := range all {
		if other.serves() && !other.isStopped() && s.network.reach(m, other) {
			with++
		}
	}
	return 2*with > len(all)
}

// member is the store as one server has it.
type member struct {
	*members
	machine *machine
}

// await returns once the server can get something agreed. While its process is
// stopped nothing ends it, and least of all a deadline.
func (m member) await(ctx context.Context) error {
	<-m.machine.gate()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if m.majority(m.machine) {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m member) Load(ctx context.Context) (*store.State, error) {
	if err := m.await(ctx); err != nil {
		return nil, err
	}
	return m.Memory.Load(ctx)
}

var errNoAnswer = errors.New("the store did not answer")

func (m member) Commit(ctx context.Context, from *store.State, changes []store.Change) error {
	if err := m.await(ctx); err != nil {
		return err
	}
	if err := m.Memory.Commit(ctx, from, changes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost > 0 {
		m.lost--
		return errNoAnswer
	}
	return nil
}

// election lets one server lead at a time, the one that has waited longest.
type election struct {
	members *members

	mu        sync.Mutex // guards all below
	waiting   []*candidate
	leader    *term
	missed    time.Time // since when the leader is missed
	observers map[chan string]*machine
}

type candidate struct {
	machine *machine
	value   string
	won     chan *term
}

// ballot is the election as one server has it.
type ballot struct {
	*election
	machine *machine
}

func (b ballot) Campaign(ctx context.Context, value string) (server.Term, error) {
	c := &candidate{b.machine, value, make(chan *term, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()
	b.review()
	select {
	case t := <-c.won:
		b.mu.Lock()
		defer b.mu.Unlock()
		t.ctx, t.end = context.WithCancel(ctx)
		if t.over {
			t.end()
		}
		return t, nil
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting = slices.DeleteFunc(b.waiting, func(other *candidate) bool { return other == c })
		select {
		case t := <-c.won:
			b.leader = nil
			t.over = true
		default:
		}
		return nil, context.Cause(ctx)
	}
}

func (b ballot) Leader(ctx context.Context) <-chan string {
	told := make(chan string, 1)
	b.mu.Lock()
	b.observers[told] = b.machine
	b.mu.Unlock()
	b.review()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.observers, told)
		close(told)
	})
	return told
}

// good is true for a server that can lead.
func (e *election) good(m *machine) bool {
	alone := len(e.members.servers()) == 1
	return m.serves() && (alone || !m.isStopped() && e.members.majority(m))
}

// review is called when anything has changed.
func (e *election) review() {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.leader == nil:
	case e.leader.process == e.leader.machine.serving() && e.good(e.leader.machine):
		e.missed = time.Time{}
	case e.missed.IsZero():
		e.missed = time.Now()
		time.AfterFunc(lease, e.review)
	case time.Since(e.missed) >= lease:
		e.vacate()
	}
	if e.leader == nil {
		for i, c := range e.waiting {
			if e.good(c.machine) {
				e.waiting = slices.Delete(e.waiting, i, i+1)
				e.leader, e.missed = &term{election: e, machine: c.machine, process: c.machine.serving(), value: c.value, began: time.Now()}, time.Time{}
				c.won <- e.leader
				break
			}
		}
	}
	value := ""
	if e.leader != nil {
		value = e.leader.value
	}
	for told, m := range e.observers {
		if m.isStopped() || !e.members.majority(m) {
			continue
		}
		select {
		case <-told:
		default:
		}
		told <- value
	}
}

// vacate ends the present term. Its server hears of it once it runs. e.mu is
// held.
func (e *election) vacate() {
	t := e.leader
	e.leader, e.missed, t.over = nil, time.Time{}, true
	if end := t.end; end != nil {
		gate := t.machine.gate()
		go func() {
			<-gate
			end()
		}()
	}
}

// reign is how long the present leader has led.
func (e *election) reign() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader == nil {
		return 0
	}
	return time.Since(e.leader.began)
}

// who is the machine of the server that leads, or nil.
func (e *election) who() *machine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader == nil {
		return nil
	}
	return e.leader.machine
}

// term is a time during which a server leads.
type term struct {
	*election
	machine *machine
	process *process
	value   string
	began   time.Time
	ctx     context.Context //nolint:containedctx // it is the term
	end     context.CancelFunc
	over    bool // guarded by the election's mu
}

func (t *term) Context() context.Context { return t.ctx }

func (t *term) Store() store.Store {
	return fenced{member{t.members, t.machine}, t}
}

func (t *term) Resign(context.Context) {
	t.mu.Lock()
	if t.leader == t && t.machine.serving() == t.process && t.process != nil && !t.machine.isStopped() && t.members.majority(t.machine) {
		t.leader, t.over = nil, true
	}
	t.mu.Unlock()
	t.end()
	t.review()
}

// fenced commits only during the term.
type fenced struct {
	member
	term *term
}

func (f fenced) Commit(ctx context.Context, from *store.State, changes []store.Change) error {
	if err := f.await(ctx); err != nil {
		return err
	}
	f.term.mu.Lock()
	over := f.term.over
	f.term.mu.Unlock()
	if over {
		return store.ErrNotLeader
	}
	return f.member.Commit(ctx, from, changes)
}
