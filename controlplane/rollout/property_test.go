package rollout_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

// walk is a toy under random events.
type walk struct {
	*toy
	*rapid.T
	// put counts what the user asked for, and back the rollbacks.
	put, back int
}

// anyUpdate draws settings that are valid.
func anyUpdate(t *rapid.T) resources.Update {
	share := func(label string) resources.Share {
		return resources.Share{
			Given: rapid.Bool().Draw(t, label), Percent: rapid.Bool().Draw(t, label+" is a percentage"),
			Amount: rapid.IntRange(0, 3).Draw(t, label+" amount") * rapid.SampledFrom([]int{1, 25}).Draw(t, label+" factor"),
		}
	}
	u := resources.Update{
		Order:          rapid.SampledFrom([]string{"", resources.StopFirst, resources.StartFirst}).Draw(t, "order"),
		MaxSurge:       share("max_surge"),
		MaxUnavailable: share("max_unavailable"),
		MinReady:       rapid.SampledFrom([]resources.Duration{0, resources.Duration(time.Minute)}).Draw(t, "min_ready"),
		OnFailure:      rapid.SampledFrom([]string{resources.OnFailurePause, resources.OnFailureRollback}).Draw(t, "on_failure"),
	}
	return u
}

// Whatever fails, comes back, is changed or scaled, in whatever order: each step
// keeps to the budgets, and once all is well, the service runs its record and
// the planner rests.
func TestAWalkKeepsTheBudgetsAndConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &walk{T: rt, put: 1}
		w.toy = newToy(resources.Service{Replicas: rapid.IntRange(0, 6).Draw(rt, "replicas"), Update: anyUpdate(rt)}, 3, rapid.IntRange(1, 4).Draw(rt, "room"))
		w.fatal, w.check = rt.Fatalf, w.holds
		w.lead()
		for range rapid.IntRange(0, 60).Draw(rt, "events") {
			w.event()
			if rapid.IntRange(0, 3).Draw(rt, "the leader is busy") > 0 {
				w.lead()
			}
		}
		w.comesToRest()
	})
}

func (w *walk) event() {
	node := rapid.SampledFrom([]resources.NodeID{"n1", "n2", "n3"}).Draw(w.T, "node")
	switch rapid.SampledFrom([]string{"work", "work", "work", "agent", "agent", "fail", "fail", "revise", "revert", "scale", "update", "silence", "lose", "return", "wait", "lead"}).Draw(w.T, "event") {
	case "work":
		w.work(func(resources.Replica) bool { return false })
	case "agent", "fail":
		if len(w.replicas) == 0 {
			return
		}
		r := rapid.SampledFrom(w.replicas).Draw(w.T, "replica")
		if r.Node == "" || w.view.Silent[r.Node] || w.view.Lost[r.Node] {
			return
		}
		switch rapid.IntRange(0, 3).Draw(w.T, "what it does") {
		case 0:
			w.report(r.ID, resources.ReplicaPulling)
		case 1:
			w.report(r.ID, resources.ReplicaBackoff, failed(1))
		default:
			w.step(r, rapid.Bool().Draw(w.T, "it fails"))
		}
	case "revise":
		w.put++
		w.revise(func(t *resources.Template) { t.Image = fmt.Sprintf("web:%d", w.put) })
	case "revert":
		w.put++
		w.revise(func(t *resources.Template) {
			t.Image = fmt.Sprintf("web:%d", rapid.IntRange(1, w.put).Draw(w.T, "an earlier one"))
		})
	case "scale":
		w.service.Service.Replicas = rapid.IntRange(0, 6).Draw(w.T, "replicas")
	case "update":
		w.service.Service.Update = anyUpdate(w.T)
	case "silence":
		w.view.Silent[node] = true
	case "lose":
		w.view.Silent[node], w.view.Lost[node] = true, true
	case "return":
		w.view.Silent[node], w.view.Lost[node] = false, false
	case "wait":
		w.wait(time.Duration(rapid.IntRange(1, 1000).Draw(w.T, "seconds")) * time.Second)
	case "lead":
		w.view.Since = w.view.Now
	}
}

// ready counts the replicas that are known to do their work. Of two that do the
// same in one slot, one is a stray.
func (t *toy) ready() int {
	type run struct{ slot, revision int }
	found := map[run]bool{}
	for _, r := range t.replicas {
		if r.Wanted && r.Node != "" && !t.view.Silent[r.Node] && !t.view.Lost[r.Node] && rollout.Ready(t.view.Seen[r.ID]) {
			found[run{r.Slot, r.Revision}] = true
		}
	}
	return len(found)
}

// there gives the replicas of a slot, or of all for -1, but for lost ones.
func (t *toy) there(slot int) []resources.Replica {
	return slices.DeleteFunc(slices.Clone(t.replicas), func(r resources.Replica) bool {
		return slot >= 0 && r.Slot != slot || r.Node != "" && t.view.Lost[r.Node]
	})
}

// holds checks one step of the planner.
func (w *walk) holds(before *toy, d rollout.Decision) {
	s := before.service
	budget := s.Service.Update.Budget(s.Service.Replicas)
	if least := min(before.ready(), s.Service.Replicas-budget.Unavailable); w.ready() < least {
		w.Fatalf("%d replicas are left ready, and %d have to be", w.ready(), least)
	}
	if all := len(w.there(-1)); all > max(len(before.there(-1)), s.Service.Replicas+budget.Surge) {
		w.Fatalf("there are %d replicas: %d, and %d more at most", all, s.Service.Replicas, budget.Surge)
	}
	for _, a := range d.Actions {
		if a.Do == rollout.Create {
			w.created(s, a, budget)
		}
		if a.Do == rollout.RollBack {
			w.back++
		}
		if w.back > w.put {
			w.Fatalf("%d rollbacks of what was put %d times", w.back, w.put)
		}
	}
}

func (w *walk) created(s resources.ServiceRecord, a rollout.Action, budget resources.Budget) {
	if a.Revision.Number != s.Revision && (s.Stable == nil || a.Revision.Number != s.Stable.Number) {
		w.Fatalf("revision %d is made, which is neither wanted nor proven", a.Revision.Number)
	}
	present := 0
	for _, r := range w.there(a.Slot) {
		if r.Wanted && r.Template.Image == s.Service.Image {
			present++
		}
	}
	if all := len(w.there(a.Slot)); present > 1 || budget.Surge == 0 && all > 1 || a.Slot >= s.Service.Replicas {
		w.Fatalf("slot %d was not free: %v", a.Slot, w.there(a.Slot))
	}
}

// comesToRest ends all trouble, and lets everybody work.
func (w *walk) comesToRest() {
	w.room = 100
	clear(w.view.Silent)
	clear(w.view.Lost)
	good := func(resources.Replica) bool { return false }
	w.untilQuiet(func() { w.work(good) })
	status := rollout.Status(w.service, w.replicas, w.view)
	if status.State != resources.ServiceRunning || status.Ready != w.service.Service.Replicas || len(w.replicas) != status.Ready {
		w.Fatalf("it comes to rest at %s with %d of %d ready, and %d in all: %s", status.State, status.Ready, w.service.Service.Replicas, len(w.replicas), status.Message)
	}
	for _, r := range w.replicas {
		if r.Template.Image != w.service.Service.Image {
			w.Fatalf("%s still runs %s", r.ID, r.Template.Image)
		}
	}
	if d := rollout.Plan(w.service, w.replicas, w.view); len(d.Actions) > 0 || !d.Wake.IsZero() {
		w.Fatalf("the planner does not rest: %+v", d)
	}
}

// A revision that can't run takes no more than the budgets, whatever the order
// in which agents work; and where it rolls back, all is as before.
func TestABadRevisionStopsAtItsFirstReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, 8).Draw(t, "replicas")
		w := newToy(resources.Service{Replicas: replicas, Update: anyUpdate(t)}, 3, 100)
		w.fatal = t.Fatalf
		bad := func(r resources.Replica) bool { return r.Template.Image == "web:bad" }
		settle := func() {
			w.untilQuiet(func() {
				for _, id := range rapid.Permutation(w.ids()).Draw(t, "order of work") {
					if i := w.index(id); i >= 0 {
						w.step(w.replicas[i], bad(w.replicas[i]))
					}
					if rapid.Bool().Draw(t, "the leader looks") {
						w.lead()
					}
				}
			})
		}
		w.lead()
		settle()
		budget := w.service.Service.Update.Budget(replicas)
		w.check = func(*toy, rollout.Decision) {
			if n := len(slices.DeleteFunc(slices.Clone(w.replicas), func(r resources.Replica) bool { return !bad(r) })); n > budget.Surge+budget.Unavailable {
				t.Fatalf("%d replicas were made of a revision that can't run; %d may be missing, and %d surplus", n, budget.Unavailable, budget.Surge)
			}
		}
		w.revise(func(t *resources.Template) { t.Image = "web:bad" })
		w.lead()
		settle()
		status := rollout.Status(w.service, w.replicas, w.view)
		if w.service.Service.Update.OnFailure == resources.OnFailureRollback {
			if status.State != resources.ServiceRunning || status.Ready != replicas || status.RolledBack != 2 || status.Revision != 3 {
				t.Fatalf("after the rollback it is %+v", status)
			}
			return
		}
		if status.State != resources.ServiceFailed || w.ready() < replicas-budget.Unavailable {
			t.Fatalf("it is %s, and of %d replicas %d are ready", status.State, replicas, w.ready())
		}
	})
}

// untilQuiet lets agents and leader work until nothing has happened for three
// minutes, which is longer than any replica has to prove itself.
func (t *toy) untilQuiet(work func()) {
	quiet := 0
	for range 1000 {
		before := t.acted
		work()
		t.lead()
		t.wait(time.Minute)
		quiet++
		if t.acted > before {
			quiet = 0
		}
		if quiet == 3 {
			return
		}
	}
	t.fatal("it never comes to rest: %+v", t.service)
}

func (t *toy) ids() []resources.ReplicaID {
	var all []resources.ReplicaID
	for _, r := range t.replicas {
		all = append(all, r.ID)
	}
	return all
}
