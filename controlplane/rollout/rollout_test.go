package rollout_test

import (
	"slices"
	"strings"
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

// A stray does not count yet, and its stop takes nothing away, however few are up.
func TestAStrayThatHasJustStartedStops(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	service := resources.Service{Name: "web", Replicas: 3, Update: resources.Update{MinReady: resources.Duration(time.Minute)}}
	var replicas []resources.Replica
	seen := rollout.Seen{}
	for id, r := range map[resources.ReplicaID]struct {
		slot  int
		state resources.ReplicaState
		since time.Duration
	}{
		"web-0-old": {0, resources.ReplicaRunning, time.Hour}, "web-0-stray": {0, resources.ReplicaRunning, time.Second},
		"web-1": {1, resources.ReplicaBackoff, 0}, "web-2": {2, resources.ReplicaBackoff, 0},
	} {
		replicas = append(replicas, resources.Replica{ID: id, Service: "web", Slot: r.slot, Revision: 1, Node: "n1", Wanted: true})
		seen[id] = resources.ReplicaStatus{ID: id, State: r.state, ReadySince: now.Add(-r.since)}
	}
	slices.SortFunc(replicas, func(a, b resources.Replica) int { return strings.Compare(string(a.ID), string(b.ID)) })
	view := rollout.View{Now: now, Since: now.Add(-time.Hour), Nodes: map[resources.NodeID]resources.NodeInfo{"n1": {}}, Seen: seen}
	var stopped []resources.ReplicaID
	for _, a := range rollout.Plan(resources.ServiceRecord{Service: service, Revision: 1}, replicas, view).Actions {
		if a.Do == rollout.Stop {
			stopped = append(stopped, a.Replica)
		}
	}
	if !slices.Equal(stopped, []resources.ReplicaID{"web-0-stray"}) {
		t.Errorf("%v stop", stopped)
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
