package rollout_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

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

// A node was lost in a rollout and has come back with its old replica, while the
// new one waits for what that has: the old one goes, unless the new one has to
// start first.
func TestTheOldReplicaGoesWhereTheNewOneWaitsForIt(t *testing.T) {
	for _, c := range []struct {
		order string
		want  []rollout.Action
	}{
		{resources.StopFirst, []rollout.Action{{Do: rollout.Stop, Replica: "0a"}}},
		{resources.StartFirst, nil},
	} {
		t.Run(c.order, func(t *testing.T) {
			r := newToy(resources.Service{Replicas: 1, Update: resources.Update{Order: c.order}}, 1, 1)
			r.service.Revision = 2
			r.service.Stable = &resources.Revision{Number: 1, Template: template(1)}
			r.service.Rollout.Began, r.service.Rollout.Progress = r.view.Now, r.view.Now
			r.replicas = []resources.Replica{
				{ID: "0a", Slot: 0, Revision: 1, Node: "n1", Wanted: true, Template: template(1)},
				{ID: "0b", Slot: 0, Revision: 2, Wanted: true, Template: template(2), Waiting: "a volume has a single writer", MayWait: true},
			}
			r.service.Service.Template = template(2)
			r.view.Seen["0a"] = resources.ReplicaStatus{ID: "0a", State: resources.ReplicaRunning}
			var stops []rollout.Action
			for _, a := range rollout.Plan(r.service, r.replicas, r.view).Actions {
				if a.Do == rollout.Stop {
					stops = append(stops, a)
				}
			}
			if diff := cmp.Diff(c.want, stops); diff != "" {
				t.Error(diff)
			}
		})
	}
}
