package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// agents let the nodes work on a virtual clock: a heartbeat says what became of
// every replica.
type agents struct {
	*Server
	nodes []string
	// bad is an image that can't run, and slow one whose pull never ends.
	bad, slow string
	// badContent is a version of a content with which nothing runs.
	badContent string
}

func (a *agents) join(t *testing.T, nodes ...string) {
	t.Helper()
	a.nodes = nodes
	for _, n := range nodes {
		ask[any](t, a.Server, http.MethodPut, "/v1/nodes/"+n, nodeInfo(n))
	}
	a.beat(t)
}

// beat lets every node report once.
func (a *agents) beat(t *testing.T) {
	t.Helper()
	for _, n := range a.nodes {
		statuses := []resources.ReplicaStatus{}
		for _, r := range ask[resources.Assignment](t, a.Server, http.MethodGet, "/v1/nodes/"+n+"/assignment", nil).Replicas {
			statuses = append(statuses, a.of(r))
		}
		ask[any](t, a.Server, http.MethodPut, "/v1/nodes/"+n+"/status", statuses)
	}
}

func (a *agents) of(r resources.Replica) resources.ReplicaStatus {
	s := runs(r)
	switch {
	case !r.Wanted:
	case r.Template.Image == a.bad, slices.Contains(r.Contents.Versions(), a.badContent):
		code := 1
		s.State, s.Failures, s.ExitCode = resources.ReplicaBackoff, rollout.FailuresToReport, &code
		s.Reason, s.Message, s.LogTail = resources.ReasonCrashed, "it ended at once", []string{"no database"}
	case r.Template.Image == a.slow:
		s.State = resources.ReplicaPulling
	}
	return s
}

// live lets the agents work for a time, a heartbeat after the other.
func (a *agents) live(t *testing.T, d time.Duration) {
	t.Helper()
	for ; d > 0; d -= Heartbeat {
		time.Sleep(Heartbeat)
		synctest.Wait()
		a.beat(t)
	}
}

func (a *agents) web(t *testing.T) resources.ServiceStatus {
	t.Helper()
	return ask[resources.ServiceStatus](t, a.Server, http.MethodGet, "/v1/services/web", nil)
}

func (a *agents) put(t *testing.T, s resources.Service) resources.ServiceStatus {
	t.Helper()
	return ask[resources.ServiceStatus](t, a.Server, http.MethodPut, "/v1/services/web", s)
}

func (a *agents) told(t *testing.T, reason string) []string {
	t.Helper()
	var all []string
	for _, e := range ask[[]resources.Event](t, a.Server, http.MethodGet, "/v1/events", nil) {
		if e.Reason == reason {
			all = append(all, e.Message)
		}
	}
	return all
}

func image(s resources.Service, name string) resources.Service {
	s.Image = name
	return s
}

// A revision that can't run is rolled back, and what is read afterwards is what
// runs, so that the next plan shows the difference again.
func TestRollBack(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s, bad: "localhost/web:bad"}
		a.join(t, "n1", "n2")
		good := web(3)
		good.Update.OnFailure = resources.OnFailureRollback
		a.put(t, good)
		a.live(t, 10*time.Second)
		before := a.web(t)
		if before.State != resources.ServiceRunning || before.Stable != 1 {
			t.Fatalf("at first it is %+v", before)
		}
		bad := image(good, a.bad)
		bad.Replicas = 2
		a.put(t, bad)
		a.live(t, time.Minute)
		after := a.web(t)
		if after.State != resources.ServiceRunning || after.Revision != 3 || after.RolledBack != 2 || after.Service.Image != good.Image || after.ImageDigest != digest {
			t.Errorf("after the rollback it is %+v", after)
		}
		if after.Service.Replicas != 2 {
			t.Errorf("the rollback took back the count too: %d replicas", after.Service.Replicas)
		}
		for _, word := range []string{"revision 2", "Crashed", "exit code 1", "no database"} {
			if !strings.Contains(after.Message, word) {
				t.Errorf("the message lacks %q: %s", word, after.Message)
			}
		}
		kept := 0
		for id := range ids(after) {
			if ids(before)[id] {
				kept++
			}
		}
		if kept != 1 {
			t.Errorf("%d of the replicas that ran are left, want the one that did not have to go", kept)
		}
		if got := a.told(t, "RolledBack"); len(got) != 1 || !strings.HasPrefix(got[0], "revision 3 goes back to what ran as revision 1: replica web-0-") || strings.Contains(got[0], "\n") {
			t.Errorf("events: %q", got)
		}
		if got := a.told(t, "RolledOut"); !slices.Equal(got, []string{"revision 1 runs", "revision 3 runs"}) {
			t.Errorf("events: %q", got)
		}
		// The same again is one more revision, and ends alike.
		if again := a.put(t, bad); again.Revision != 4 || again.RolledBack != 0 {
			t.Errorf("the second attempt is %+v", again)
		}
		a.live(t, time.Minute)
		if last := a.web(t); last.Revision != 5 || last.RolledBack != 4 || last.State != resources.ServiceRunning {
			t.Errorf("after the second attempt it is %+v", last)
		}
	})
}

// A rollback whose template can't run either pauses, and goes on when it can.
func TestARollBackThatFailsPauses(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1")
		good := web(2)
		good.Update.OnFailure = resources.OnFailureRollback
		a.put(t, good)
		a.live(t, 10*time.Second)
		next := image(good, "localhost/web:2")
		a.put(t, next)
		a.bad = next.Image
		a.live(t, 15*time.Second)
		a.bad = good.Image // now the earlier image is broken as well
		a.live(t, time.Hour)
		status := a.web(t)
		if status.State != resources.ServiceFailed || status.Revision != 3 || len(a.told(t, "RolledBack")) != 1 {
			t.Errorf("it is %+v", status)
		}
		a.bad = ""
		a.live(t, 30*time.Second)
		if status := a.web(t); status.State != resources.ServiceRunning || status.Ready != 2 {
			t.Errorf("it is %+v", status)
		}
	})
}

// With the defaults, a rollout that fails leaves the rest as it is, through a
// change of leaders too, and goes on by itself.
func TestPause(t *testing.T) {
	memory := admitting(t, "n1", "n2")
	bad := image(web(3), "localhost/web:bad")
	paused := func(t *testing.T, a *agents) {
		t.Helper()
		old := 0
		status := a.web(t)
		for _, r := range status.Replicas {
			if r.Revision == 1 && r.Wanted && r.Status.State == resources.ReplicaRunning {
				old++
			}
		}
		if status.State != resources.ServiceFailed || old != 2 || len(status.Replicas) != 3 || !strings.Contains(status.Message, "no database") {
			t.Fatalf("%d old replicas run, and it is %+v", old, status)
		}
	}
	onAClock(t, memory, func(t *testing.T, s *Server) {
		a := &agents{Server: s, bad: bad.Image}
		a.join(t, "n1")
		a.put(t, web(3))
		a.live(t, 10*time.Second)
		a.put(t, bad)
		a.live(t, time.Hour)
		paused(t, a)
		if got := a.told(t, "RolloutPaused"); len(got) != 1 || !strings.Contains(got[0], "the rollout of revision 2 does not go on: replica web-0-") {
			t.Errorf("events: %q", got)
		}
	})
	onAClock(t, memory, func(t *testing.T, s *Server) {
		a := &agents{Server: s, bad: bad.Image}
		a.join(t, "n1")
		a.live(t, time.Hour)
		paused(t, a)
		a.bad = ""
		a.live(t, time.Minute)
		if status := a.web(t); !running(2)(status) {
			t.Errorf("it is %+v", status)
		}
	})
}

// The leader wakes by itself when a deadline is over, and when a replica has
// proven itself.
func TestTheLeaderWakesForARollout(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s, slow: "localhost/web:slow"}
		a.join(t, "n1")
		first := web(2)
		first.Update.MinReady = resources.Duration(8 * time.Second)
		first.Update.ProgressDeadline = resources.Duration(20 * time.Second)
		a.put(t, first)
		a.beat(t)
		state := func(after time.Duration) resources.ServiceState {
			time.Sleep(after)
			synctest.Wait()
			shown, _ := s.board.get()
			return shown.status(shown.state.Services["web"]).State
		}
		if before, after := state(8*time.Second-1), state(1); before != resources.ServiceRolling || after != resources.ServiceRunning {
			t.Errorf("before it has proven itself it is %s, and then %s", before, after)
		}
		a.put(t, image(first, a.slow))
		a.beat(t) // the old one is gone
		a.beat(t) // the new one is being pulled
		a.live(t, 15*time.Second)
		if before, after := state(5*time.Second-1), state(1); before != resources.ServiceRolling || after != resources.ServiceFailed {
			t.Errorf("before the deadline it is %s, and then %s", before, after)
		}
		status := a.web(t)
		if !strings.Contains(status.Message, "come no further for 20s (update.progress_deadline): replica web-0-") {
			t.Errorf("after the deadline it says %s", status.Message)
		}
		if got := a.told(t, "RolloutPaused"); len(got) != 1 {
			t.Errorf("events: %q", got)
		}
	})
}

// What a replica was ready for is counted by the leader's clock, whatever the
// node says.
func TestReadySince(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	r := newReports()
	var got []time.Time
	for i, s := range []resources.ReplicaStatus{
		{State: resources.ReplicaStarting, StartedAt: at(9000)},
		{State: resources.ReplicaRunning, StartedAt: at(9000)},
		{State: resources.ReplicaRunning, StartedAt: at(9000), Message: "still"},
		{State: resources.ReplicaRunning, StartedAt: at(9001)},
		{State: resources.ReplicaBackoff, StartedAt: at(9001)},
		{State: resources.ReplicaRunning, StartedAt: at(9002), ReadySince: at(-5)},
	} {
		s.ID = "r"
		r.put("n1", []resources.ReplicaStatus{s}, at(i))
		got = append(got, r.seen["n1"][0].ReadySince)
	}
	if diff := cmp.Diff([]time.Time{{}, at(1), at(1), at(3), {}, at(5)}, got); diff != "" {
		t.Errorf("ready since (-want +got):\n%s", diff)
	}
}

// A published port is free on no other node than one's own: with the defaults
// a rollout needs none, start-first says what it needs, and takes it where it
// is allowed to.
func TestAPortOnASingleNode(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1")
		service := web(1)
		service.Ports = []resources.Port{{Target: 80}}
		a.put(t, service)
		a.live(t, 10*time.Second)
		service.Image = "localhost/web:2"
		a.put(t, service)
		a.live(t, 15*time.Second)
		if status := a.web(t); !running(2)(status) {
			t.Fatalf("with the defaults it is %+v", status)
		}
		service.Image, service.Update.Order = "localhost/web:3", resources.StartFirst
		a.put(t, service)
		a.live(t, 15*time.Second)
		status := a.web(t)
		if status.State != resources.ServiceFailed || status.Replicas[1].Status.State != resources.ReplicaRunning {
			t.Errorf("start-first is %+v", status)
		}
		for _, word := range []string{"NoPlace", "port 80/tcp", "raise update.max_unavailable, which is 0"} {
			if !strings.Contains(status.Message, word) {
				t.Errorf("the message lacks %q: %s", word, status.Message)
			}
		}
		service.Update.MaxUnavailable = resources.Share{Amount: 1, Given: true}
		a.put(t, service)
		a.live(t, 15*time.Second)
		if status := a.web(t); !running(3)(status) {
			t.Errorf("where one may be missing, it is %+v", status)
		}
	})
}

// An agent that is back and has nothing to tell yet keeps its node from being
// lost. It tells nothing to a leader that has not heard it, and brings back no
// node that was given up.
func TestAPulse(t *testing.T) {
	r, state, now := newReports(), (&store.State{}).With(store.PutNode(nodeInfo("n1")), store.PutNode(nodeInfo("n2")), store.PutNode(nodeInfo("n3"))), time.Unix(1e9, 0)
	look := func(passed time.Duration) *view {
		for at := maxPause; at < passed; at += maxPause { // or the server would have been away
			r.view(state, now.Add(at))
		}
		now = now.Add(passed)
		for _, other := range []resources.NodeID{"n2", "n3"} {
			r.put(other, nil, now)
		}
		return r.view(state, now)
	}
	r.lead(now)
	r.pulse("n1", now)
	if look(time.Second).complete {
		t.Error("a pulse counts for a report")
	}
	r.put("n1", nil, now)
	look(NodeTimeout - time.Second)
	r.pulse("n1", now)
	if v := look(NodeTimeout - time.Second); !v.ready["n1"] || v.lost["n1"] {
		t.Error("the node of an agent that is back is lost")
	}
	if v := look(2 * time.Second); v.ready["n1"] || !v.lost["n1"] {
		t.Error("a pulse lasts for ever")
	}
	r.pulse("n1", now)
	if v := look(0); v.ready["n1"] || !v.lost["n1"] {
		t.Error("a pulse brings back a node that was given up")
	}
}
