// Package storetest is the conformance suite of package store: what every Store
// has to do, whatever it is made of.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Run runs the suite; open gives a new, empty store.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("what was committed is loaded", func(t *testing.T) { committed(t, open(t)) })
	t.Run("a replica has the revision at which it was written", func(t *testing.T) { version(t, open(t)) })
	t.Run("a stale snapshot is refused", func(t *testing.T) { stale(t, open(t)) })
	t.Run("a snapshot stays as it was", func(t *testing.T) { snapshot(t, open(t)) })
	t.Run("deleting what is absent succeeds", func(t *testing.T) { absent(t, open(t)) })
	t.Run("more changes than a batch holds", func(t *testing.T) { many(t, open(t)) })
	t.Run("a batch of large changes", func(t *testing.T) { large(t, open(t)) })
	t.Run("a watcher is told of each change", func(t *testing.T) { watch(t, open(t)) })
	t.Run("a watcher is told of a change that comes at once", func(t *testing.T) { watchAtOnce(t, open(t)) })
}

func service(name string, revision int) resources.ServiceRecord {
	return resources.ServiceRecord{Service: resources.Service{Name: name}, Revision: revision}
}

func load(t *testing.T, s store.Store) *store.State {
	t.Helper()
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func commit(t *testing.T, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Commit(t.Context(), load(t, s), changes); err != nil {
		t.Fatal(err)
	}
}

func committed(t *testing.T, s store.Store) {
	node := resources.NodeInfo{ID: "n1", Name: "one", Labels: map[string]string{"a": "b"}}
	replica := resources.Replica{ID: "web-0-x", Service: "web", Node: "n1", Wanted: true}
	network := resources.NetworkRecord{
		Network: resources.Network{Name: "blue", Internal: true}, CIDR: netip.MustParsePrefix("10.40.0.0/16"),
		Subnets: map[resources.NodeID]netip.Prefix{"n1": netip.MustParsePrefix("10.40.32.0/24")},
	}
	changes := []store.Change{store.PutNode(node), store.PutNetwork(network), store.PutService(service("web", 1)), store.PutReplica(replica)}
	before := load(t, s)
	commit(t, s, changes...)
	ignore := cmp.Options{cmpopts.IgnoreUnexported(store.State{}), cmp.Transformer("All", func(r store.Replicas) map[resources.ReplicaID]*resources.Replica { return maps.Collect(r.All()) }), cmpopts.IgnoreFields(store.State{}, "Revision"), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}
	if diff := cmp.Diff(before.With(changes...), load(t, s), ignore); diff != "" {
		t.Errorf("the store differs from the state with the same changes (-state +store):\n%s", diff)
	}
	commit(t, s, store.DeleteNode("n1"), store.DeleteNetwork("blue"), store.DeleteService("web"), store.DeleteReplica("web-0-x"))
	if diff := cmp.Diff(before, load(t, s), ignore); diff != "" {
		t.Errorf("after the deletion (-want +got):\n%s", diff)
	}
}

func version(t *testing.T, s store.Store) {
	replica := resources.Replica{ID: "web-0-x", Service: "web", Wanted: true}
	if got := load(t, s).Replicas.Version(replica.ID); got != 0 {
		t.Errorf("one that is not there has revision %d", got)
	}
	commit(t, s, store.PutReplica(replica))
	first := load(t, s)
	commit(t, s, store.PutService(service("web", 1)))
	later := load(t, s)
	if got := later.Replicas.Version(replica.ID); got != first.Replicas.Version(replica.ID) || got > first.Revision || got == 0 {
		t.Errorf("it was written by revision %d, and has %d", first.Revision, got)
	}
	replica.Wanted = false
	commit(t, s, store.PutReplica(replica))
	last := load(t, s)
	if got := last.Replicas.Version(replica.ID); got <= later.Revision || got > last.Revision {
		t.Errorf("it was written between revisions %d and %d, and has %d", later.Revision, last.Revision, got)
	}
	commit(t, s, store.DeleteReplica(replica.ID))
}

func stale(t *testing.T, s store.Store) {
	empty := load(t, s)
	commit(t, s, store.PutService(service("web", 1)))
	if err := s.Commit(t.Context(), empty, []store.Change{store.PutService(service("web", 2))}); !errors.Is(err, store.ErrStale) {
		t.Errorf("creating what was created meanwhile: %v, want ErrStale", err)
	}
	if err := s.Commit(t.Context(), empty, []store.Change{store.DeleteService("web"), store.PutService(service("api", 1))}); !errors.Is(err, store.ErrStale) {
		t.Errorf("deleting what was created meanwhile: %v, want ErrStale", err)
	}
	if err := s.Commit(t.Context(), empty, []store.Change{store.PutService(service("other", 1))}); err != nil {
		t.Errorf("a change of another key: %v", err)
	}
	state := load(t, s)
	if len(state.Services) != 2 || state.Services["web"].Revision != 1 {
		t.Errorf("a refused commit has left its mark: %v", state.Services)
	}
}

func snapshot(t *testing.T, s store.Store) {
	replica := resources.Replica{ID: "web-1-x", Service: "web", Slot: 1, Node: "n1"}
	commit(t, s, store.PutReplica(replica))
	old := load(t, s)
	replica.Node = "n2"
	commit(t, s, store.PutReplica(replica), store.PutReplica(resources.Replica{ID: "web-0-x", Service: "web", Node: "n2"}))
	if got := old.ReplicasOn("n1"); old.Replicas.Len() != 1 || len(got) != 1 || got[0].Node != "n1" {
		t.Errorf("a snapshot shows what was written later: %v", got)
	}
	now := load(t, s)
	if len(now.ReplicasOn("n1")) > 0 || len(now.ReplicasOn("n2")) != 2 || now.ReplicasOf("web")[0].ID != "web-0-x" {
		t.Errorf("a new snapshot shows %v", now.ReplicasOn("n2"))
	}
}

func absent(t *testing.T, s store.Store) {
	commit(t, s, store.DeleteService("nothing"), store.DeleteNode("nothing"))
}

func many(t *testing.T, s store.Store) {
	var changes []store.Change
	for i := range 3*store.BatchSize + 1 {
		changes = append(changes, store.PutService(service(fmt.Sprintf("s%d", i), 1)))
	}
	commit(t, s, changes...)
	if got := len(load(t, s).Services); got != len(changes) {
		t.Errorf("%d of %d changes are there", got, len(changes))
	}
}

// The environment of a service is easily as large as this.
func large(t *testing.T, s store.Store) {
	var changes []store.Change
	for i := range store.BatchSize {
		record := service(fmt.Sprintf("s%d", i), 1)
		record.Service.Env = map[string]string{"TEXT": strings.Repeat("x", 50<<10)}
		changes = append(changes, store.PutService(record))
	}
	commit(t, s, changes...)
}

func watch(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := s.Watch(ctx)
	<-changed
	for revision := 1; revision < 4; revision++ {
		commit(t, s, store.PutService(service("web", revision)))
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the watcher was not told")
		}
	}
}

// What a watcher has loaded when it waits is never older than the store.
func watchAtOnce(t *testing.T, s store.Store) {
	for revision := 1; revision <= 200; revision++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		changed := s.Watch(ctx)
		<-changed
		if got := load(t, s).Services["web"].Revision; got != revision-1 {
			t.Fatalf("revision %d, want %d", got, revision-1)
		}
		commit(t, s, store.PutService(service("web", revision)))
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the watcher was not told of change %d", revision)
		}
		cancel()
	}
}
