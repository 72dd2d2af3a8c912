package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

func TestStatusTellsWhatFailed(t *testing.T) {
	c := newToy(resources.Service{Replicas: 1}, 1, 1)
	c.fatal = t.Fatalf
	c.lead()
	status := func(state resources.ReplicaState, failures int) resources.ServiceStatus {
		c.report("0a", state, failed(failures))
		return rollout.Status(c.service, c.replicas, c.view)
	}
	want := "replica 0a on node n1: Crashed: it ended at once (exit code 1)\nIts last log lines:\n  last words"
	for _, state := range []resources.ReplicaState{resources.ReplicaBackoff, resources.ReplicaStarting} {
		if got := status(state, rollout.FailuresToReport); got.State != resources.ServiceFailed || got.Message != want {
			t.Errorf("state %s, message:\n%s\nwant:\n%s", got.State, got.Message, want)
		}
	}
	if got := status(resources.ReplicaBackoff, 1); got.State != resources.ServiceRolling {
		t.Errorf("after one failure the service is %s, want rolling", got.State)
	}
	if got := status(resources.ReplicaExited, 1); got.State != resources.ServiceFailed {
		t.Errorf("it ended and stays so, and the service is %s, want failed", got.State)
	}
}

// The node of the old replica was lost, and has come back: the new one, which was
// made meanwhile, waits for the volume that the old one has.
func TestAReplicaGivesItsVolumeToItsSuccessor(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	mounting := func(image, volume string) resources.Template {
		return resources.Template{Image: image, Mounts: []resources.Mount{{Volume: volume, Path: "/data"}}}
	}
	for _, c := range []struct {
		name, order, has string
		stops            bool
	}{
		{"the same volume", resources.StopFirst, "rows", true},
		{"another volume", resources.StopFirst, "other", false},
		{"a volume that both may mount", resources.StartFirst, "rows", false},
	} {
		service := resources.Service{Name: "db", Replicas: 1, Template: mounting("db:2", "rows"), Update: resources.Update{Order: c.order}}
		replicas := []resources.Replica{
			{ID: "old", Service: "db", Revision: 1, Node: "n1", Wanted: true, Template: mounting("db:1", c.has)},
			{ID: "new", Service: "db", Revision: 2, Wanted: true, Template: service.Template, Waiting: "volume rows has a single writer", MayWait: true},
		}
		view := rollout.View{Now: now, Since: now, Nodes: map[resources.NodeID]resources.NodeInfo{"n1": {}}, Seen: rollout.Seen{
			"old": {ID: "old", State: resources.ReplicaRunning},
		}}
		d := rollout.Plan(resources.ServiceRecord{Service: service, Revision: 2}, replicas, view)
		stops := slices.ContainsFunc(d.Actions, func(a rollout.Action) bool { return a.Do == rollout.Stop && a.Replica == "old" })
		if stops != c.stops {
			t.Errorf("%s: the plan is %+v", c.name, d.Actions)
		}
	}
}

// A revision runs once it is remembered as what a rollback goes back to: whoever is
// told so may put the next one at once.
func TestRunningMeansRemembered(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	record := resources.ServiceRecord{Service: resources.Service{Name: "web", Replicas: 1}, Revision: 1}
	replicas := []resources.Replica{{ID: "a", Service: "web", Revision: 1, Node: "n1", Wanted: true}}
	view := rollout.View{Now: now, Since: now, Nodes: map[resources.NodeID]resources.NodeInfo{"n1": {}}, Seen: rollout.Seen{
		"a": {ID: "a", State: resources.ReplicaRunning, ReadySince: now.Add(-time.Hour)},
	}}
	if state := rollout.Status(record, replicas, view).State; state != resources.ServiceRolling {
		t.Errorf("before it is remembered, the service is %s", state)
	}
	actions := rollout.Plan(record, replicas, view).Actions
	i := slices.IndexFunc(actions, func(a rollout.Action) bool { return a.Do == rollout.Complete })
	if i < 0 {
		t.Fatalf("nothing is remembered: %+v", actions)
	}
	if state := rollout.Status(actions[i].Record, replicas, view).State; state != resources.ServiceRunning {
		t.Errorf("once it is remembered, the service is %s", state)
	}
}
