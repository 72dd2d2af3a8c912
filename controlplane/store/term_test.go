package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/controlplane/store/storetest"
	"github.com/skerry-io/skerry/resources"
)

func TestTermStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		return campaign(t, open(t, t.TempDir()), "n1").Store()
	})
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.join(t, "n2")
	c.join(t, "n3")
	t.Run("conformance", func(t *testing.T) { // of a member that does not lead etcd
		storetest.Run(t, func(t *testing.T) store.Store {
			removeServices(t, c.members["n3"])
			return c.members["n3"]
		})
	})
	t.Run("the leader resigns", func(t *testing.T) { resigns(t, c) })
	t.Run("a member restarts", func(t *testing.T) { restarts(t, c) })
	t.Run("the leader's member ends", func(t *testing.T) { leaderEnds(t, c) })
}

func removeServices(t *testing.T, s store.Store) {
	t.Helper()
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var changes []store.Change
	for name := range state.Services {
		changes = append(changes, store.DeleteService(name))
	}
	if err := s.Commit(t.Context(), state, changes); err != nil {
		t.Fatal(err)
	}
}

func campaign(t *testing.T, e *store.Etcd, value string) *store.Term {
	t.Helper()
	term, err := e.Campaign(t.Context(), value)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// leads waits until a member is told that somebody leads.
func leads(t *testing.T, leader <-chan string, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-leader:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("nobody is told that %q leads", want)
		}
	}
}

func ends(t *testing.T, term *store.Term, within time.Duration) {
	t.Helper()
	select {
	case <-term.Context().Done():
	case <-time.After(within):
		t.Fatalf("the term has not ended after %v", within)
	}
}

func resigns(t *testing.T, c *cluster) {
	leader := c.members["n3"].Leader(t.Context())
	if got := <-leader; got != "" {
		t.Errorf("before the first leader %q leads", got)
	}
	first := campaign(t, c.members["n1"].Etcd, "one")
	leads(t, leader, "one")
	next := make(chan *store.Term, 1)
	go func() {
		term, err := c.members["n2"].Campaign(t.Context(), "two")
		if err != nil {
			t.Error(err)
		}
		next <- term
	}()
	put(t, first.Store(), "web", 1)
	first.Resign(t.Context())
	ends(t, first, time.Second)
	if err := tryPut(t.Context(), first.Store(), "web", 2); !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("a commit after the term: %v, want ErrNotLeader", err)
	}
	second := <-next
	leads(t, leader, "two")
	if err := tryPut(t.Context(), first.Store(), "web", 2); !errors.Is(err, store.ErrNotLeader) {
		t.Errorf("a commit in the next term: %v, want ErrNotLeader", err)
	}
	put(t, second.Store(), "web", 2)
	state, err := second.Store().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, second.Store(), "web", 3)
	stale := store.PutService(resources.ServiceRecord{Service: resources.Service{Name: "web"}, Revision: 9})
	if err := second.Store().Commit(t.Context(), state, []store.Change{stale}); !errors.Is(err, store.ErrStale) {
		t.Errorf("a stale commit of the leader: %v, want ErrStale", err)
	}
	second.Resign(t.Context())
	leads(t, leader, "")
}

func restarts(t *testing.T, c *cluster) {
	c.members["n2"].Close()
	put(t, c.members["n1"], "meanwhile", 1)
	want := services(t, c.members["n1"])
	c.start(t, c.members["n2"])
	if got := services(t, c.members["n2"]); got != want {
		t.Errorf("%d services after a restart, want %d", got, want)
	}
}

// The member of the leader is gone without a word; another takes over.
func leaderEnds(t *testing.T, c *cluster) {
	leader := c.members["n3"].Leader(t.Context())
	first := campaign(t, c.members["n1"].Etcd, "one")
	leads(t, leader, "one")
	c.members["n1"].Close()
	ends(t, first, time.Second)
	second := campaign(t, c.members["n2"].Etcd, "two")
	leads(t, leader, "two")
	put(t, second.Store(), "web", 4)
	second.Resign(t.Context())
	c.start(t, c.members["n1"])
}

// Without a quorum a commit fails, the term ends and nobody is told a lie; once
// a member returns all goes on.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.join(t, "n2")
	term := campaign(t, c.members["n1"].Etcd, "one")
	put(t, term.Store(), "before", 1)
	state, err := term.Store().Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.members["n2"].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	change := store.PutService(resources.ServiceRecord{Service: resources.Service{Name: "without"}})
	if err := term.Store().Commit(ctx, state, []store.Change{change}); !errors.Is(err, store.ErrNoQuorum) {
		t.Errorf("a commit without a quorum: %v, want ErrNoQuorum", err)
	}
	ends(t, term, time.Second) // the commit took longer to fail
	c.start(t, c.members["n2"])
	next := campaign(t, c.members["n1"].Etcd, "one")
	put(t, next.Store(), "after", 1)
	if state, err = c.members["n2"].Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state.Services["before"].Revision != 1 {
		t.Error("what was committed before is lost")
	}
}
