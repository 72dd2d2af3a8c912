package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

func record(revision, replicas int) resources.ServiceRecord {
	return resources.ServiceRecord{Service: resources.Service{Name: "web", Replicas: replicas}, Revision: revision}
}

// parse reads replicas as "ID:slot:revision:state", with "!" before an ID that
// is not wanted.
func parse(texts ...string) ([]resources.Replica, rollout.Seen) {
	var replicas []resources.Replica
	seen := rollout.Seen{}
	for _, text := range texts {
		var r resources.Replica
		fields := strings.Split(text, ":")
		id, unwanted := strings.CutPrefix(fields[0], "!")
		r.ID, r.Wanted, r.Node = resources.ReplicaID(id), !unwanted, "n1"
		fmt.Sscan(fields[1], &r.Slot)     //nolint:errcheck // the tests' own text
		fmt.Sscan(fields[2], &r.Revision) //nolint:errcheck // the tests' own text
		if len(fields) > 3 {
			seen[r.ID] = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaState(fields[3])}
		}
		replicas = append(replicas, r)
	}
	return replicas, seen
}

func show(actions []rollout.Action) string {
	var texts []string
	for _, a := range actions {
		switch a.Do {
		case rollout.Create:
			texts = append(texts, fmt.Sprintf("create %d", a.Slot))
		case rollout.Finish:
			texts = append(texts, "finish")
		case rollout.Stop, rollout.Forget:
			texts = append(texts, fmt.Sprintf("%s %s", a.Do, a.Replica))
		}
	}
	return strings.Join(texts, ", ")
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name     string
		record   resources.ServiceRecord
		replicas []string
		want     string
	}{
		{"a new service", record(1, 2), nil, "create 0, create 1"},
		{"nothing to do", record(1, 1), []string{"a:0:1:running"}, ""},
		{"starting replicas are left alone", record(1, 1), []string{"a:0:1:backoff"}, ""},
		{"more replicas", record(1, 2), []string{"a:0:1:running"}, "create 1"},
		{"fewer replicas", record(1, 1), []string{"a:0:1:running", "b:1:1:running"}, "stop b"},
		{"none", record(1, 0), []string{"a:0:1:running"}, "stop a"},
		{"a new revision begins with one slot", record(2, 2), []string{"a:0:1:running", "b:1:1:running"}, "stop a"},
		{"the slot waits for the old replica", record(2, 2), []string{"!a:0:1:stopping", "b:1:1:running"}, ""},
		{"then it is filled", record(2, 2), []string{"!a:0:1:gone", "b:1:1:running"}, "forget a, create 0"},
		{"the next slot waits for the new replica", record(2, 2), []string{"c:0:2:starting", "b:1:1:running"}, ""},
		{"then it is its turn", record(2, 2), []string{"c:0:2:running", "b:1:1:running"}, "stop b"},
		{"what does not run is replaced at once", record(2, 2), []string{"c:0:2:backoff", "b:1:1:backoff"}, "stop b"},
		{"a deleted service stops", deleted(), []string{"a:0:1:running", "!b:1:1:stopping"}, "stop a"},
		{"a deleted service is finished", deleted(), []string{"!a:0:1:gone"}, "forget a, finish"},
		{"two in one slot", record(1, 1), []string{"a:0:1:running", "b:0:1:running"}, "stop b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			replicas, seen := parse(c.replicas...)
			if diff := cmp.Diff(c.want, show(rollout.Plan(c.record, replicas, seen))); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

func deleted() resources.ServiceRecord {
	r := record(1, 2)
	r.Deleting = true
	return r
}

// Whatever the replicas are when a service changes, it comes to run its record,
// never has two replicas in a slot, and rests there.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target := record(rapid.IntRange(1, 3).Draw(t, "revision"), rapid.IntRange(0, 4).Draw(t, "replicas"))
		target.Deleting = rapid.Bool().Draw(t, "deleting")
		w := &world{seen: rollout.Seen{}}
		for slot := range rapid.IntRange(0, 5).Draw(t, "slots") {
			w.add(slot, rapid.IntRange(1, target.Revision).Draw(t, "old revision"))
			w.replicas[len(w.replicas)-1].Wanted = rapid.Bool().Draw(t, "wanted")
		}
		for range 100 {
			actions := rollout.Plan(target, w.replicas, w.seen)
			if again := rollout.Plan(target, slices.Clone(w.replicas), w.seen); !cmp.Equal(actions, again) {
				t.Fatalf("two plans of one state differ: %s; %s", show(actions), show(again))
			}
			w.carryOut(t, actions, target.Revision)
			if w.finished {
				break
			}
			// The agents move one replica at a time, in any order.
			if len(w.replicas) > 0 {
				w.step(rapid.IntRange(0, len(w.replicas)-1).Draw(t, "next"))
			} else if len(actions) == 0 {
				break
			}
		}
		for range 2 * len(w.replicas) {
			for i := range w.replicas {
				w.step(i)
			}
			w.carryOut(t, rollout.Plan(target, w.replicas, w.seen), target.Revision)
		}
		if target.Deleting {
			if !w.finished || len(w.replicas) > 0 {
				t.Fatalf("a deleted service is left: %v", w.replicas)
			}
			return
		}
		for range 20 {
			w.carryOut(t, rollout.Plan(target, w.replicas, w.seen), target.Revision)
			for i := range w.replicas {
				w.step(i)
			}
		}
		status := rollout.Status(target, w.replicas, w.seen, nil)
		if status.State != resources.ServiceRunning || status.Ready != target.Service.Replicas || len(w.replicas) != target.Service.Replicas {
			t.Fatalf("it came to rest at %s with %d ready of %d, and %d in all", status.State, status.Ready, target.Service.Replicas, len(w.replicas))
		}
	})
}

// world is a cluster in which every step succeeds.
type world struct {
	replicas []resources.Replica
	seen     rollout.Seen
	count    int
	finished bool
}

func (w *world) add(slot, revision int) {
	w.count++
	w.replicas = append(w.replicas, resources.Replica{
		ID: resources.ReplicaID(fmt.Sprintf("r%d", w.count)), Slot: slot, Revision: revision, Wanted: true, Node: "n1",
	})
}

func (w *world) carryOut(t *rapid.T, actions []rollout.Action, revision int) {
	for _, a := range actions {
		switch a.Do {
		case rollout.Create:
			if slices.ContainsFunc(w.replicas, func(r resources.Replica) bool { return r.Slot == a.Slot }) {
				t.Fatalf("slot %d is not free: %v", a.Slot, w.replicas)
			}
			w.add(a.Slot, revision)
		case rollout.Stop:
			for i := range w.replicas {
				if w.replicas[i].ID == a.Replica {
					w.replicas[i].Wanted = false
				}
			}
		case rollout.Forget:
			w.replicas = slices.DeleteFunc(w.replicas, func(r resources.Replica) bool { return r.ID == a.Replica })
		case rollout.Finish:
			w.finished = true
		}
	}
}

func (w *world) step(i int) {
	r := w.replicas[i]
	state := resources.ReplicaRunning
	if !r.Wanted {
		state = resources.ReplicaGone
	}
	w.seen[r.ID] = resources.ReplicaStatus{ID: r.ID, State: state}
}

func TestStatusTellsWhatFailed(t *testing.T) {
	replicas, seen := parse("web-0-x:0:1:backoff")
	s := seen["web-0-x"]
	code := 127
	s.Failures, s.Reason, s.Message, s.ExitCode, s.LogTail = rollout.FailuresToReport, resources.ReasonCommandNotFound, "no such file", &code, []string{"first", "second"}
	seen["web-0-x"] = s
	nodes := map[resources.NodeID]resources.NodeInfo{"n1": {Name: "one"}}
	status := rollout.Status(record(1, 1), replicas, seen, nodes)
	want := "replica web-0-x on node one: CommandNotFound: no such file (exit code 127)\nIts last log lines:\n  first\n  second"
	if status.State != resources.ServiceFailed || status.Message != want {
		t.Errorf("state %s, message:\n%s\nwant:\n%s", status.State, status.Message, want)
	}
	s.Failures = 1
	seen["web-0-x"] = s
	if status := rollout.Status(record(1, 1), replicas, seen, nodes); status.State != resources.ServiceRolling {
		t.Errorf("after one failure the service is %s, want rolling", status.State)
	}
}
