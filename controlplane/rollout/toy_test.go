package rollout_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

// toy is a cluster under one service, whose nodes do what a test tells them.
// Its replicas are named after their slot and a letter: 0a, 0b, 1a.
type toy struct {
	service  resources.ServiceRecord
	replicas []resources.Replica
	view     rollout.View
	// room is how many replicas a node takes, with those that are stopping.
	room  int
	named map[int]int
	wake  time.Time
	ended bool
	acted int // how many actions the planner took
	// check looks at each step of the planner.
	check func(before *toy, d rollout.Decision)
	fatal func(format string, args ...any)
}

func newToy(service resources.Service, nodes, room int) *toy {
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	t := &toy{room: room, named: map[int]int{}, check: func(*toy, rollout.Decision) {}, view: rollout.View{
		Now: began, Since: began, Seen: rollout.Seen{}, Nodes: map[resources.NodeID]resources.NodeInfo{},
		Silent: map[resources.NodeID]bool{}, Lost: map[resources.NodeID]bool{},
	}}
	for i := range nodes {
		id := resources.NodeID(fmt.Sprintf("n%d", i+1))
		t.view.Nodes[id] = resources.NodeInfo{ID: id, Name: string(id)}
	}
	service.Name = "web"
	t.service = resources.ServiceRecord{Service: service, Revision: 1}
	t.service.Service.Template = template(1)
	return t
}

func template(revision int) resources.Template {
	return resources.Template{Image: fmt.Sprintf("web:%d", revision), StopGrace: resources.DefaultStopGrace}
}

func (t *toy) revise(change func(*resources.Template)) {
	t.service.Revision++
	t.service.Rollout = resources.Rollout{}
	change(&t.service.Service.Template)
}

// clone is the toy as it is now.
func (t *toy) clone() *toy {
	c := *t
	c.replicas, c.view.Seen = slices.Clone(t.replicas), maps.Clone(t.view.Seen)
	return &c
}

// lead lets the planner decide, carries that out and places what waits, until
// there is nothing more to do. It tells what was done.
func (t *toy) lead() []string {
	var lines []string
	for range 100 {
		before := t.clone()
		d := rollout.Plan(t.service, t.replicas, t.view)
		if again := rollout.Plan(t.service, slices.Clone(t.replicas), t.view); !reflect.DeepEqual(d, again) {
			t.fatal("two plans of one state differ: %v; %v", d, again)
		}
		if !reflect.DeepEqual(before.replicas, t.replicas) || !reflect.DeepEqual(before.service, t.service) {
			t.fatal("the plan has changed what it was given")
		}
		if !d.Wake.IsZero() && !d.Wake.After(t.view.Now) {
			t.fatal("it wants to be woken at %s, and it is %s", d.Wake, t.view.Now)
		}
		t.acted += len(d.Actions)
		for _, a := range d.Actions {
			lines = append(lines, t.carryOut(a)...)
		}
		lines = append(lines, t.place()...)
		t.wake = d.Wake
		t.check(before, d)
		if len(d.Actions) == 0 || t.ended {
			return lines
		}
	}
	t.fatal("the planner does not come to rest: %v", lines[len(lines)-10:])
	return nil
}

func (t *toy) carryOut(a rollout.Action) []string {
	switch a.Do {
	case rollout.Create:
		n := t.named[a.Slot]
		t.named[a.Slot]++
		id := fmt.Sprintf("%d%s%c", a.Slot, strings.Repeat("z", n/26), 'a'+n%26)
		t.replicas = append(t.replicas, resources.Replica{
			ID: resources.ReplicaID(id), Slot: a.Slot, Revision: a.Revision.Number, Wanted: true,
			Template: a.Revision.Template, ImageDigest: a.Revision.ImageDigest, Created: t.view.Now.Add(time.Duration(n)),
		})
		return []string{fmt.Sprintf("create %s of revision %d", id, a.Revision.Number)}
	case rollout.Stop:
		t.replicas[t.index(a.Replica)].Wanted = false
		return []string{"stop " + string(a.Replica)}
	case rollout.Forget:
		t.replicas = slices.Delete(t.replicas, t.index(a.Replica), t.index(a.Replica)+1)
		return []string{"forget " + string(a.Replica)}
	case rollout.Finish:
		t.ended = true
		return []string{"finish"}
	case rollout.Note:
		t.service = a.Record
		return nil
	case rollout.Pause:
		t.service = a.Record
		return []string{"pause: " + firstLine(a.Record.Rollout.Paused)}
	case rollout.RollBack:
		from := t.service.Stable.Number
		t.service = a.Record
		return []string{
			fmt.Sprintf("roll back to revision %d, as revision %d, because", from, a.Record.Revision),
			"  " + firstLine(a.Record.Rollout.Reason),
		}
	case rollout.Complete:
		t.service = a.Record
		return []string{fmt.Sprintf("complete revision %d", a.Record.Revision)}
	}
	t.fatal("there is no action %v", a)
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (t *toy) index(id resources.ReplicaID) int {
	return slices.IndexFunc(t.replicas, func(r resources.Replica) bool { return r.ID == id })
}

// place finds nodes for what waits: the one with the fewest replicas.
func (t *toy) place() []string {
	var lines []string
	for i := range t.replicas {
		r := &t.replicas[i]
		if r.Node != "" || !r.Wanted {
			continue
		}
		old := *r
		r.Node, r.Waiting, r.MayWait = "", "no node has room", false
		fewest := t.room
		for _, id := range slices.Sorted(maps.Keys(t.view.Nodes)) {
			if t.view.Silent[id] || t.view.Lost[id] {
				r.MayWait = true
				continue
			}
			if n := t.on(id); n < fewest {
				r.Node, fewest = id, n
			}
		}
		switch {
		case r.Node != "":
			r.Waiting, r.MayWait = "", false
			lines = append(lines, fmt.Sprintf("  %s goes to %s", r.ID, r.Node))
		case r.Waiting != old.Waiting:
			lines = append(lines, fmt.Sprintf("  %s waits: %s", r.ID, r.Waiting))
		}
	}
	return lines
}

func (t *toy) on(node resources.NodeID) int {
	n := 0
	for _, r := range t.replicas {
		if r.Node == node {
			n++
		}
	}
	return n
}

// report is what the agent of a replica says of it.
func (t *toy) report(id resources.ReplicaID, state resources.ReplicaState, change ...func(*resources.ReplicaStatus)) {
	old := t.view.Seen[id]
	s := resources.ReplicaStatus{ID: id, State: state}
	if rollout.Ready(s) {
		s.ReadySince = old.ReadySince
		if !rollout.Ready(old) {
			s.ReadySince = t.view.Now
		}
	}
	for _, c := range change {
		c(&s)
	}
	t.view.Seen[id] = s
}

func failed(failures int) func(*resources.ReplicaStatus) {
	return func(s *resources.ReplicaStatus) {
		code := 1
		s.Failures, s.ExitCode, s.Reason, s.Message = failures, &code, resources.ReasonCrashed, "it ended at once"
		s.LogTail = []string{"last words"}
	}
}

// work lets every agent that is heard do what it has to: what is wanted runs,
// unless bad says that it can't, and what is not is gone.
func (t *toy) work(bad func(resources.Replica) bool) {
	for _, r := range t.replicas {
		if r.Node != "" && !t.view.Silent[r.Node] && !t.view.Lost[r.Node] {
			t.step(r, bad(r))
		}
	}
}

func (t *toy) step(r resources.Replica, bad bool) {
	switch {
	case !r.Wanted:
		t.report(r.ID, resources.ReplicaGone)
	case bad:
		t.report(r.ID, resources.ReplicaBackoff, failed(rollout.FailuresToReport))
	default:
		t.report(r.ID, resources.ReplicaRunning)
	}
}

// wait lets time go by; the leader wakes when it asked to.
func (t *toy) wait(d time.Duration) []string {
	var lines []string
	from, until := t.view.Now, t.view.Now.Add(d)
	for !t.wake.IsZero() && !t.wake.After(until) {
		t.view.Now = t.wake
		if did := t.lead(); len(did) > 0 {
			lines = append(append(lines, fmt.Sprintf("after %s:", t.view.Now.Sub(from))), did...)
		}
	}
	t.view.Now = until
	return append(lines, t.lead()...)
}
