package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Ready is true where a replica does its work.
func Ready(s resources.ReplicaStatus) bool {
	return s.State == resources.ReplicaRunning && !s.NotReady
}

// FailuresToReport is how often a replica may fail before its revision counts
// as one that can't run: an image or a port that is free a second later is no
// failure.
const FailuresToReport = 3

// standing is what the leader knows of a replica.
type standing int

const (
	unheard  standing = iota // it may run or not: its node has not said, or is silent
	down                     // it does not do its work
	up                       // it does its work, or has ended well and is not started again
	stopping                 // it is not wanted, and something of it is left
	lost                     // its node is given up
)

// replica is a replica with what is known of it.
type replica struct {
	*resources.Replica
	state standing
	// current is true where it runs the service's present template.
	current bool
	// proven is true where it is up, and has been for as long as a new replica
	// has to.
	proven bool
}

// survey is a service at one moment.
type survey struct {
	service  resources.ServiceRecord
	present  resources.Revision
	update   resources.Update
	budget   resources.Budget
	view     View
	replicas []replica
	// size is how many slots the service has.
	size int
	// rolling is true until the revision has run whole once.
	rolling bool
	// up counts what a stop has to leave: replicas that do their work, those of
	// a present revision only once proven. Two of one revision in one slot count
	// once: the second one is a stray. total counts all there are.
	up, total int
	proven    map[run]int
	// done counts the proven replicas of the present revision in their slots.
	done int
	// failure says why a replica of the revision can't run; roomless is true where
	// all that do not only find no node.
	failure  string
	roomless bool
	// forgot is true where the place of a replica has just become free, and
	// progressed where the rollout has come forward since it was last written.
	forgot, progressed bool
	actions            []Action
}

// run is what one replica at a time does.
type run struct{ slot, revision int }

func runOf(r *resources.Replica) run { return run{r.Slot, r.Revision} }

// look takes stock. replicas are in order, without those that were just
// forgotten.
func look(service resources.ServiceRecord, replicas []*resources.Replica, v View, forgot bool) *survey {
	s := &survey{
		forgot: forgot, service: service, size: service.Service.Replicas, view: v, update: service.Service.Update,
		present: resources.Revision{Number: service.Revision, Template: service.Service.Template, ImageDigest: service.ImageDigest, Contents: service.Contents},
		rolling: service.Stable == nil || service.Stable.Number != service.Revision,
	}
	s.update.SetDefaults()
	s.budget = s.update.Budget(s.size)
	current := s.currents(replicas)
	s.replicas = make([]replica, 0, len(replicas))
	s.proven = map[run]int{}
	slots := map[int]bool{}
	for _, r := range replicas {
		k := replica{Replica: r, state: s.standing(r), current: current(r)}
		k.proven = k.state == up && (!s.rolling || !k.current || s.longEnough(v.Seen[r.ID]))
		s.replicas = append(s.replicas, k)
		if k.state != lost {
			s.total++
		}
		if k.proven {
			if s.proven[runOf(r)]++; s.proven[runOf(r)] == 1 {
				s.up++
			}
			if k.current && r.Slot < s.size && !slots[r.Slot] {
				slots[r.Slot] = true
				s.done++
			}
		}
	}
	s.failure, s.roomless = s.firstFailure()
	s.progressed = forgot || s.done > service.Rollout.Done
	return s
}

// currents tells which replicas run the present template. A replica of another
// revision does where the template is the same: after a rollback, what still
// runs of the old revision stays.
func (s *survey) currents(replicas []*resources.Replica) func(*resources.Replica) bool {
	same := map[int]bool{s.service.Revision: true}
	for _, r := range replicas {
		if _, known := same[r.Revision]; !known {
			same[r.Revision] = sameRun(resources.Revision{Template: r.Template, ImageDigest: r.ImageDigest, Contents: r.Contents}, s.present)
		}
	}
	return func(r *resources.Replica) bool { return same[r.Revision] }
}

// sameRun is true where replicas of both revisions do the same.
func sameRun(a, b resources.Revision) bool {
	return a.ImageDigest == b.ImageDigest && maps.Equal(a.Contents, b.Contents) && reflect.DeepEqual(a.Template, b.Template)
}

func (s *survey) standing(r *resources.Replica) standing {
	status, heard := s.view.Seen[r.ID]
	switch {
	case r.Node != "" && s.view.Lost[r.Node]:
		return lost
	case !r.Wanted:
		return stopping
	case r.Node == "":
		return down
	case !heard || s.view.Silent[r.Node]:
		return unheard
	case Ready(status) || finished(status):
		return up
	default:
		return down
	}
}

// finished is true where a replica has ended well and is not started again.
func finished(s resources.ReplicaStatus) bool {
	return s.State == resources.ReplicaExited && s.ExitCode != nil && *s.ExitCode == 0
}

func (s *survey) longEnough(status resources.ReplicaStatus) bool {
	return finished(status) || !s.view.Now.Before(status.ReadySince.Add(time.Duration(s.update.MinReady)))
}

// mayStop is true where a stop of the replica keeps enough of them up. That of a
// stray, whose slot has another proven one of its run, takes nothing away.
func (s *survey) mayStop(r replica) bool {
	after, others := s.up, s.proven[runOf(r.Replica)]
	if r.proven {
		after--
		others--
	}
	return r.state == down || others > 0 || after >= max(0, s.size-s.budget.Unavailable)
}

// complete is true where each slot has a proven replica of the revision, and
// no other is left.
func (s *survey) complete() bool {
	return s.done == s.size && s.total == s.done
}

// resting is true for a service of no replicas: nothing is proven of its
// revision, and there is nothing to wait for.
func (s *survey) resting() bool { return s.size == 0 && s.total == 0 }

// firstFailure says why the first replica of the revision that can't run
// doesn't, and whether none has failed in another way than to find no node;
// nothing while each may still come to run.
func (s *survey) firstFailure() (why string, roomless bool) {
	frees, inSlot := s.freeing()
	roomless = true
	for _, r := range s.replicas {
		status := s.view.Seen[r.ID]
		switch {
		case r.state != down || !r.current:
		case s.needsRoom(r) && !frees && !inSlot[r.Slot]:
			why = cmp.Or(why, fmt.Sprintf("replica %s: %s: %s%s", r.ID, resources.ReasonNoPlace, r.Waiting, s.hint(r)))
		case broken(status):
			why, roomless = cmp.Or(why, fmt.Sprintf("replica %s on node %s: %s", r.ID, s.view.Nodes[r.Node].Name, tell(status))), false
		}
	}
	return why, roomless && why != ""
}

// waitsForNode says which replica waits for a node though the revision has run
// whole, and why; nothing where none does.
func (s *survey) waitsForNode() string {
	for _, r := range s.replicas {
		if !s.rolling && r.current && r.state == down && r.Node == "" && r.Waiting != "" {
			return fmt.Sprintf("replica %s waits for a node: %s", r.ID, r.Waiting)
		}
	}
	return ""
}

// broken is true where a replica has failed too often, or for good.
func broken(s resources.ReplicaStatus) bool {
	return s.State == resources.ReplicaExited && !finished(s) || !Ready(s) && s.Failures >= FailuresToReport
}

func tell(s resources.ReplicaStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", s.Reason, s.Message)
	if s.ExitCode != nil && s.Reason != resources.ReasonImagePull {
		fmt.Fprintf(&b, " (exit code %d)", *s.ExitCode)
	}
	if len(s.LogTail) > 0 {
		b.WriteString("\nIts last log lines:\n  " + strings.Join(s.LogTail, "\n  "))
	}
	return b.String()
}

// needsRoom is true for a replica that no node can take as things are.
func (s *survey) needsRoom(r replica) bool { return r.Node == "" && r.Waiting != "" && !r.MayWait }

// freeing finds out where the service itself still frees what a replica that
// waits for a place may need: everywhere, because something has just gone, is
// stopping or will be stopped; or in a slot, for the successor there.
func (s *survey) freeing() (everywhere bool, inSlot map[int]bool) {
	proving, proven := map[int]bool{}, map[int]bool{}
	for _, r := range s.replicas {
		if r.current && r.Node != "" {
			proving[r.Slot] = proving[r.Slot] || !r.proven && !broken(s.view.Seen[r.ID])
			proven[r.Slot] = proven[r.Slot] || r.proven
		}
	}
	everywhere, inSlot = s.forgot, map[int]bool{}
	for _, r := range s.replicas {
		switch may := s.mayStop(r); {
		case r.state == lost || r.Node == "":
		case r.state == stopping:
			everywhere = true
		case r.Slot >= s.size:
			everywhere = everywhere || may
		case !r.current:
			everywhere = everywhere || proving[r.Slot] || may && (proven[r.Slot] || r.state == down)
			inSlot[r.Slot] = inSlot[r.Slot] || may
		}
	}
	return everywhere, inSlot
}

// hint says how a replica finds room that its predecessor has.
func (s *survey) hint(waiting replica) string {
	for _, r := range s.replicas {
		if r.Slot == waiting.Slot && !r.current && r.state != lost {
			return fmt.Sprintf("; or raise update.max_unavailable, which is %d, so that %s stops first", s.budget.Unavailable, r.ID)
		}
	}
	return ""
}

// waitsFor says what a rollout without failures waits for.
func (s *survey) waitsFor() string {
	for _, r := range s.replicas {
		status := s.view.Seen[r.ID]
		on := s.view.Nodes[r.Node].Name
		switch {
		case r.state == lost || r.proven && r.current:
		case r.Node == "":
			return fmt.Sprintf("replica %s waits for a node: %s", r.ID, r.Waiting)
		case s.view.Silent[r.Node]:
			return fmt.Sprintf("replica %s is on node %s, which is silent", r.ID, on)
		case r.state == stopping:
			return fmt.Sprintf("replica %s on node %s has yet to stop", r.ID, on)
		case r.current && status.NotReady:
			return strings.TrimSuffix(fmt.Sprintf("replica %s on node %s is not ready yet: %s", r.ID, on, status.Message), ": ")
		case r.current:
			return strings.TrimSpace(fmt.Sprintf("replica %s on node %s is %s %s", r.ID, on, cmp.Or(status.State, resources.ReplicaPending), status.Message))
		}
	}
	return "fewer replicas are ready than the rollout has to leave"
}
