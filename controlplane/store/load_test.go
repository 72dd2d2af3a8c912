package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/resources"
)

// A state that is brought up to date is the one that is read whole, whatever was
// written and deleted meanwhile, and those that were loaded before stay as they
// were.
func TestLoadBringsUpToDate(t *testing.T) {
	t.Parallel()
	run, err := os.MkdirTemp("", "store") //nolint:usetesting // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) }) //nolint:errcheck // a directory in the temporary directory
	e, err := OpenEtcd(t.Context(), Member{Dir: t.TempDir(), Run: run}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	random := rand.New(rand.NewPCG(1, 2))
	change := func() Change {
		name := fmt.Sprintf("n%d", random.IntN(6))
		replica := resources.Replica{ID: resources.ReplicaID(name), Slot: random.IntN(100)}
		return []Change{
			PutReplica(replica), DeleteReplica(replica.ID),
			PutNode(resources.NodeInfo{ID: resources.NodeID(name), Podman: fmt.Sprint(random.IntN(100))}), DeleteNode(resources.NodeID(name)),
			PutCluster(resources.ClusterRecord{Servers: []resources.NodeID{resources.NodeID(name)}}),
		}[random.IntN(5)]
	}
	same := cmp.Options{
		cmp.AllowUnexported(State{}), cmpopts.IgnoreFields(State{}, "Replicas", "find", "found", "owned"), cmpopts.EquateEmpty(),
	}
	replicas := func(s *State) map[resources.ReplicaID]resources.Replica {
		all := map[resources.ReplicaID]resources.Replica{}
		for id, r := range s.Replicas.All() {
			all[id] = *r
		}
		return all
	}
	for range 150 {
		before, err := e.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		was := replicas(before)
		for range random.IntN(4) { // nothing, or several revisions
			present, err := e.loadFrom(t.Context(), newState())
			if err != nil {
				t.Fatal(err)
			}
			e.last.Store(before) // as if nobody had looked since
			if err := e.Commit(t.Context(), present, []Change{change()}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := e.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, err := e.loadFrom(t.Context(), newState())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, same) + cmp.Diff(replicas(want), replicas(got)) + cmp.Diff(was, replicas(before)); diff != "" {
			t.Fatal(diff)
		}
		for id := range replicas(want) {
			if want.version(replicasPrefix+string(id)) != got.version(replicasPrefix+string(id)) {
				t.Fatalf("the version of %s", id)
			}
		}
	}
}
