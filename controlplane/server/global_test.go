package server

import (
	"testing"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// A service that has become global, on nodes that it does not fit, and one that has
// shrunk: replicas of one slot are in one still, so that strays are seen.
func TestReplicasBeyondTheLastSlotStayTogether(t *testing.T) {
	service := func(more resources.Service) resources.ServiceRecord {
		more.Name = "web"
		return resources.ServiceRecord{Service: more}
	}
	scaled := service(resources.Service{Autoscale: &resources.Autoscale{}})
	scaled.Scaled = &resources.Scaled{Slots: []int{2, 4}}
	for name, c := range map[string]struct {
		service resources.ServiceRecord
		size    int
	}{
		"global": {service(resources.Service{Mode: resources.ModeGlobal}), 0},
		"scaled": {scaled, 2},
	} {
		changes := []store.Change{store.PutService(c.service)}
		for i, slot := range []int{2, 4, 7, 7, 9} {
			changes = append(changes, store.PutReplica(resources.Replica{ID: resources.ReplicaID(string(rune('a' + i))), Service: "web", Slot: slot, Wanted: true}))
		}
		var memory store.Memory
		state, err := memory.Load(t.Context())
		if err == nil {
			err = memory.Commit(t.Context(), state, changes)
		}
		if err == nil {
			state, err = memory.Load(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		s := (&view{state: state}).slots(state, c.service)
		if s.service.Service.Replicas != c.size {
			t.Errorf("%s: %d slots, want %d", name, s.service.Service.Replicas, c.size)
		}
		for i, want := range []int{0, 1, 2, 2, 3} {
			if got := s.replicas[i].Slot; got != want {
				t.Errorf("%s: replica %s is in slot %d, want %d", name, s.replicas[i].ID, got, want)
			}
		}
	}
}
