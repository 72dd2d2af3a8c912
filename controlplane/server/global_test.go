package server

import (
	"testing"

	"github.com/skerry-io/skerry/resources"
)

func TestReplicasBeyondTheLastSlotStayTogether(t *testing.T) {
	s := slots{replicas: []resources.Replica{{Slot: 7}, {Slot: 2}, {Slot: 4}, {Slot: 7}, {Slot: 9}}}
	s.scale([]int{2, 4})
	for i, want := range []int{2, 0, 1, 2, 3} {
		if got := s.replicas[i].Slot; got != want {
			t.Errorf("replica %d is in slot %d, want %d", i, got, want)
		}
	}
	if s.service.Service.Replicas != 2 {
		t.Errorf("%d slots", s.service.Service.Replicas)
	}
}
