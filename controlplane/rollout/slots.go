package rollout

import (
	"cmp"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// steps gives what can be done now. It counts along, so that all of it together
// stays within the budget.
func (s *survey) steps() []Action {
	slots, surplus := s.slots()
	s.trim(slots, surplus)
	s.fill(slots)
	if !s.failing() {
		s.move(slots)
		s.progressed = s.progressed || len(s.actions) > 0
	}
	return s.actions
}

// stop stops a replica if enough of them stay up.
func (s *survey) stop(i int) {
	r := &s.replicas[i]
	if !s.mayStop(*r) {
		return
	}
	if r.proven {
		if s.proven[runOf(r.Replica)]--; s.proven[runOf(r.Replica)] == 0 {
			s.up--
		}
	}
	r.state, r.proven = stopping, false
	s.actions = append(s.actions, Action{Do: Stop, Replica: r.ID})
}

func (s *survey) create(slot int, revision resources.Revision) {
	s.total++
	s.actions = append(s.actions, Action{Do: Create, Slot: slot, Revision: revision})
}

// full is true where there is no room for one more.
func (s *survey) full() bool { return s.total >= s.size+s.budget.Surge }

// trim stops what is not needed.
func (s *survey) trim(slots []slot, surplus []int) {
	for _, i := range slices.Backward(surplus) {
		s.stop(i)
	}
	for _, l := range slots {
		for _, i := range s.needless(l) {
			s.stop(i)
		}
	}
}

// fill makes what is missing. While the revision fails, the last one that ran
// whole takes its place.
func (s *survey) fill(slots []slot) {
	revision := s.present
	if s.failing() && s.service.Stable != nil {
		revision = *s.service.Stable
	}
	for n, l := range slots {
		if l.empty() && !s.full() {
			s.create(n, revision)
		}
	}
}

// move takes slots on to the present revision, as far as the budget goes.
func (s *survey) move(slots []slot) {
	startFirst := s.update.Order == resources.StartFirst
	for n, l := range slots {
		i, found := s.toMove(l)
		switch {
		case !found:
		case s.replicas[i].state != down && !s.full() && (startFirst || !s.mayStop(s.replicas[i])):
			s.create(n, s.present)
		default:
			s.stop(i)
		}
	}
}

// slot holds the replicas in one slot that count, by their place in the survey.
type slot struct {
	current, old, stopping []int
}

func (s *survey) slots() (slots []slot, surplus []int) {
	slots = make([]slot, s.size)
	for i, r := range s.replicas {
		switch {
		case r.state == lost:
		case r.Slot >= len(slots):
			if r.state != stopping {
				surplus = append(surplus, i)
			}
		case r.state == stopping:
			slots[r.Slot].stopping = append(slots[r.Slot].stopping, i)
		case r.current:
			slots[r.Slot].current = append(slots[r.Slot].current, i)
		default:
			slots[r.Slot].old = append(slots[r.Slot].old, i)
		}
	}
	return slots, surplus
}

func (l slot) empty() bool { return len(l.current)+len(l.old)+len(l.stopping) == 0 }

// needless gives the replicas of a slot that another one stands for: all but
// the best of the present revision; and of the old ones, all but the best while
// the new one has to prove itself, or while the revision fails.
func (s *survey) needless(l slot) []int {
	var rest []int
	if len(l.current) > 1 {
		rest = append(rest, s.bestFirst(l.current)[1:]...)
	}
	if len(l.old) == 0 {
		return rest
	}
	old := s.bestFirst(l.old)
	if len(l.current) > 0 && !s.failing() {
		if r := s.replicas[s.bestFirst(l.current)[0]]; r.proven || s.needsRoom(r) || s.needsVolume(r, l) {
			return append(rest, old...)
		}
	}
	return append(rest, old[1:]...)
}

// needsVolume is true for a replica without a node that waits for what an old one in
// its slot has: both are there where that one's node was lost, and has come back.
func (s *survey) needsVolume(waiting replica, l slot) bool {
	if waiting.Node != "" || s.update.Order == resources.StartFirst {
		return false
	}
	wanted := waiting.Template.VolumeNames()
	return slices.ContainsFunc(l.old, func(i int) bool {
		has := s.replicas[i].Template.VolumeNames()
		return slices.ContainsFunc(wanted, func(name string) bool { return slices.Contains(has, name) })
	})
}

// bestFirst sorts replicas by how far they are. Of two that are as far, the
// newer comes first: it stands where the other one's node was lost once.
func (s *survey) bestFirst(some []int) []int {
	rank := func(r replica) int {
		switch {
		case r.proven:
			return 0
		case r.state == up:
			return 1
		case r.state == unheard:
			return 2
		case r.Node != "":
			return 3
		default:
			return 4
		}
	}
	sorted := slices.Clone(some)
	slices.SortFunc(sorted, func(i, j int) int {
		a, b := s.replicas[i], s.replicas[j]
		return cmp.Or(rank(a)-rank(b), b.Created.Compare(a.Created), strings.Compare(string(a.ID), string(b.ID)))
	})
	return sorted
}

// toMove gives the old replica of a slot that the revision has yet to reach. One
// that was not heard is left until it is known.
func (s *survey) toMove(l slot) (int, bool) {
	for _, i := range l.old {
		if len(l.current)+len(l.stopping) == 0 && (s.replicas[i].state == up || s.replicas[i].state == down) {
			return i, true
		}
	}
	return 0, false
}
