package store

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

func collect(r Replicas) map[resources.ReplicaID]resources.Replica {
	all := map[resources.ReplicaID]resources.Replica{}
	for id, replica := range r.All() {
		all[id] = *replica
	}
	return all
}

// Copies of Replicas that are changed in any order are as copies of maps.
func TestReplicasAreAsMaps(t *testing.T) {
	type plain = map[resources.ReplicaID]resources.Replica
	rapid.Check(t, func(t *rapid.T) {
		copies, maps1 := []Replicas{{}}, []plain{{}}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			at := rapid.IntRange(0, len(copies)-1).Draw(t, "copy")
			id := resources.ReplicaID(fmt.Sprint("r", rapid.IntRange(0, 300).Draw(t, "id")))
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				copies = append(copies, copies[at].share())
				maps1 = append(maps1, maps.Clone(maps1[at]))
				// What was shared is a snapshot.
				copies[at].owner = nil
			case 1:
				copies[at].put(id, nil, 0)
				delete(maps1[at], id)
			default:
				for i := range 30 {
					r := resources.Replica{ID: resources.ReplicaID(fmt.Sprint(id, i)), Slot: rapid.IntRange(0, 3).Draw(t, "slot")}
					copies[at].put(r.ID, &r, 0)
					maps1[at][r.ID] = r
				}
			}
			if got, found := copies[at].Find(id); found != (maps1[at][id].ID == id) || got.ID != maps1[at][id].ID {
				t.Fatalf("%s is found as %v, %t", id, got, found)
			}
		}
		for i, r := range copies {
			if diff := cmp.Diff(maps1[i], collect(r)); diff != "" || r.Len() != len(maps1[i]) {
				t.Fatalf("copy %d with %d of %d (-map +replicas):\n%s", i, r.Len(), len(maps1[i]), diff)
			}
		}
	})
}
