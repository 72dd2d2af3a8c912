package rollout_test

import (
	"testing"

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
