package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// These tests run on a virtual clock, and so without sockets.

// onAClock runs a server on the store in a bubble of virtual time.
func onAClock(t *testing.T, s store.Store, test func(t *testing.T, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := New(Config{
			Self: resources.ServerAddress{Node: "server"}, Store: s, Images: fakeImages{}, Log: slog.New(slog.DiscardHandler),
			Resolve: func(context.Context, string, map[string]Access) (string, error) { return digest, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- server.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		test(t, server)
	})
}

// admitting is a store of a cluster that has let the nodes in.
func admitting(t *testing.T, ids ...resources.NodeID) *store.Memory {
	t.Helper()
	s := &store.Memory{}
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), state, []store.Change{store.PutCluster(resources.ClusterRecord{Nodes: ids})}); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask makes one call without a socket, and waits until the leader rests.
func ask[T any](t *testing.T, s *Server, method, path string, in any) T {
	t.Helper()
	var out T
	if err := call(t, s, method, path, in, &out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

func tryAsk(t *testing.T, s *Server, method, path string, in any) error {
	t.Helper()
	return call(t, s, method, path, in, nil)
}

func call(t *testing.T, s *Server, method, path string, in, out any) error {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body)))
	response := recorder.Result()
	defer response.Body.Close() //nolint:errcheck // it is in memory
	err = api.ReadAnswer(response, out)
	synctest.Wait()
	return err
}

func ready(t *testing.T, s *Server) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, n := range ask[[]resources.NodeStatus](t, s, http.MethodGet, "/v1/nodes", nil) {
		all[n.Name] = n.Ready
	}
	return all
}

// A node that is silent for three heartbeats is not ready, takes no replica,
// and is back with its first word.
func TestASilentNodeIsNotReady(t *testing.T) {
	onAClock(t, admitting(t, "n1"), func(t *testing.T, s *Server) {
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1", nodeInfo("n1"))
		if diff := cmp.Diff(map[string]bool{"n1": false}, ready(t, s)); diff != "" {
			t.Errorf("before it has reported (-want +got):\n%s", diff)
		}
		beat := func() { ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", []resources.ReplicaStatus{}) }
		for range 10 {
			beat()
			time.Sleep(Heartbeat)
			if !ready(t, s)["n1"] {
				t.Fatal("it is not ready between two heartbeats")
			}
		}
		beat()
		time.Sleep(NodeTimeout - time.Millisecond)
		if !ready(t, s)["n1"] {
			t.Error("it is lost too early")
		}
		shown, changed := s.board.get()
		if !shown.ready["n1"] {
			t.Error("the board has lost it too early")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		<-changed
		if shown, _ := s.board.get(); shown.ready["n1"] || ready(t, s)["n1"] {
			t.Error("it is ready, and has been silent for 15 s")
		}
		status := ask[resources.ServiceStatus](t, s, http.MethodPut, "/v1/services/web", web(1))
		status = ask[resources.ServiceStatus](t, s, http.MethodGet, "/v1/services/"+status.Service.Name, nil)
		if r := status.Replicas[0]; r.Node != "" || r.Status.Message != "0 of 1 nodes fit: 1 not ready" || status.State != resources.ServiceRolling {
			t.Errorf("the service is %s, its replica %+v", status.State, r)
		}
		beat()
		status = ask[resources.ServiceStatus](t, s, http.MethodGet, "/v1/services/web", nil)
		if status.Replicas[0].Node != "n1" {
			t.Errorf("its replica is %+v", status.Replicas[0])
		}
	})
}

// A server that starts again knows of nothing that runs. It must take nothing
// for stopped before the nodes have had their time to say what runs, or a
// rollout that was under way would stop every replica at once.
func TestANewLeaderHearsEverybodyFirst(t *testing.T) {
	s := &store.Memory{}
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	service := web(3)
	service.SetDefaults()
	old := service.Template
	old.Image = "docker.io/library/web:0"
	changes := []store.Change{store.PutNode(nodeInfo("n1")), store.PutService(resources.ServiceRecord{Service: service, Revision: 2})}
	statuses := []resources.ReplicaStatus{}
	for slot, id := range []resources.ReplicaID{"web-0-a", "web-1-b", "web-2-c"} {
		changes = append(changes, store.PutReplica(resources.Replica{ID: id, Service: "web", Slot: slot, Revision: 1, Node: "n1", Wanted: true, Template: old}))
		statuses = append(statuses, resources.ReplicaStatus{ID: id, State: resources.ReplicaRunning})
	}
	if err := s.Commit(t.Context(), state, changes); err != nil {
		t.Fatal(err)
	}
	onAClock(t, s, func(t *testing.T, s *Server) {
		wanted := func() int {
			count := 0
			for _, r := range ask[resources.Assignment](t, s, http.MethodGet, "/v1/nodes/n1/assignment", nil).Replicas {
				if r.Wanted {
					count++
				}
			}
			return count
		}
		time.Sleep(NodeTimeout - time.Second)
		if got := wanted(); got != 3 {
			t.Fatalf("%d of 3 replicas are wanted, before their node has said a word", got)
		}
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", statuses)
		if got := wanted(); got != 2 {
			t.Errorf("%d of 3 replicas are wanted: the rollout goes slot by slot", got)
		}
	})
}

// A node that never comes back holds nothing up for longer than a lost one.
func TestANewLeaderDoesNotWaitForTheDead(t *testing.T) {
	s := &store.Memory{}
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), state, []store.Change{store.PutNode(nodeInfo("dead")), store.PutNode(nodeInfo("n1"))}); err != nil {
		t.Fatal(err)
	}
	onAClock(t, s, func(t *testing.T, s *Server) {
		ask[any](t, s, http.MethodPut, "/v1/services/web", web(1))
		for range 2 {
			time.Sleep(Heartbeat)
			ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", []resources.ReplicaStatus{})
		}
		replicas := func() []resources.Replica {
			return ask[resources.Assignment](t, s, http.MethodGet, "/v1/nodes/n1/assignment", nil).Replicas
		}
		if len(replicas()) != 0 {
			t.Error("it has decided before everybody could speak")
		}
		time.Sleep(NodeTimeout - 2*Heartbeat)
		synctest.Wait()
		if len(replicas()) != 1 {
			t.Error("it still waits for a node that is dead")
		}
	})
}

// A failure is one event, counted where it comes again; what changes while it
// stands is none.
func TestEventsAreCounted(t *testing.T) {
	onAClock(t, admitting(t, "n1"), func(t *testing.T, s *Server) {
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1", nodeInfo("n1"))
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1", nodeInfo("n1"))
		report := func(state resources.ReplicaState, failures int, reason resources.Reason) {
			ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", []resources.ReplicaStatus{
				{ID: "web-0-x", State: state, Reason: reason, Message: string(reason), Failures: failures},
			})
			time.Sleep(time.Second)
		}
		report(resources.ReplicaStarting, 0, "")
		for failures := 1; failures <= 3; failures++ {
			report(resources.ReplicaBackoff, failures, resources.ReasonCrashed)
			report(resources.ReplicaBackoff, failures, resources.ReasonCrashed)
			report(resources.ReplicaStarting, failures, resources.ReasonCrashed)
		}
		report(resources.ReplicaBackoff, 3, resources.ReasonOutOfMemory)
		report(resources.ReplicaRunning, 0, "")
		type told struct {
			Object, Reason string
			Count          int
		}
		var got []told
		last := time.Time{}
		for _, e := range ask[[]resources.Event](t, s, http.MethodGet, "/v1/events", nil) {
			got = append(got, told{e.Object, e.Reason, e.Count})
			if e.Time.Before(last) {
				t.Errorf("the events are not in order: %+v", e)
			}
			last = e.Time
		}
		want := []told{{"node/n1", "Joined", 1}, {"replica/web-0-x", "Crashed", 3}, {"replica/web-0-x", "OutOfMemory", 1}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestOldEventsGo(t *testing.T) {
	e := newEvents()
	for i := range maxEvents + 10 {
		e.add("node/n1", "Counted", string(rune('a'+i)), time.Now())
	}
	if all, _ := e.list(); len(all) != maxEvents || all[0].Message != string(rune('a'+10)) {
		t.Errorf("%d events are left, the first is %+v", len(all), all[0])
	}
}

// A step that fails is taken again, without anything to wake the leader.
func TestAFailedStepIsTakenAgain(t *testing.T) {
	broken := &brokenStore{}
	onAClock(t, broken, func(t *testing.T, s *Server) {
		broken.fails = 2
		ask[any](t, s, http.MethodPut, "/v1/services/web", web(1))
		replicas := func() int {
			return len(ask[resources.ServiceStatus](t, s, http.MethodGet, "/v1/services/web", nil).Replicas)
		}
		if got := replicas(); got != 0 {
			t.Fatalf("%d replicas, in a store that is broken", got)
		}
		time.Sleep(3 * retryWait)
		synctest.Wait()
		if got := replicas(); got != 1 {
			t.Errorf("%d replicas, want 1", got)
		}
	})
}

// brokenStore fails to commit what the leader decides, a few times; unlike a
// put, that is a service with its replica.
type brokenStore struct {
	store.Memory
	fails int
}

func (b *brokenStore) Commit(ctx context.Context, from *store.State, changes []store.Change) error {
	if b.fails > 0 && len(changes) > 1 {
		b.fails--
		return context.DeadlineExceeded
	}
	return b.Memory.Commit(ctx, from, changes)
}

// A lost node's replicas are placed elsewhere, and when it returns there is one
// of each again.
func TestALostNodeIsReplaced(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2", "n3"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1", "n2", "n3")
		a.put(t, web(3))
		a.live(t, 30*time.Second)
		count := func() map[string]int {
			all := map[string]int{}
			for _, r := range ask[resources.ServiceStatus](t, s, http.MethodGet, "/v1/services/web", nil).Replicas {
				if r.Status.State == resources.ReplicaRunning {
					all[r.NodeName]++
				}
			}
			return all
		}
		if diff := cmp.Diff(map[string]int{"n1": 1, "n2": 1, "n3": 1}, count()); diff != "" {
			t.Fatalf("before (-want +got):\n%s", diff)
		}
		a.nodes = []string{"n1", "n2"}
		a.live(t, NodeTimeout+2*Heartbeat)
		if got := count(); got["n1"]+got["n2"] != 3 {
			t.Errorf("with n3 lost: %v", got)
		}
		a.nodes = []string{"n1", "n2", "n3"}
		a.live(t, 10*Heartbeat)
		if got := count(); got["n1"]+got["n2"]+got["n3"] != 3 {
			t.Errorf("with n3 back: %v", got)
		}
	})
}

// Where most nodes fall silent at once, nothing is moved for a minute: it may be
// the leader who is cut off.
func TestALeaderThatIsCutOffMovesNothing(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2", "n3"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1", "n2", "n3")
		a.put(t, web(3))
		a.live(t, 30*time.Second)
		on := func() int {
			return len(ask[resources.Assignment](t, s, http.MethodGet, "/v1/nodes/n1/assignment", nil).Replicas)
		}
		a.nodes = []string{"n1"}
		a.live(t, manyLost)
		if got := on(); got != 1 {
			t.Errorf("within a minute n1 got %d replicas", got)
		}
		a.live(t, NodeTimeout+2*Heartbeat)
		if got := on(); got != 3 {
			t.Errorf("after it n1 has %d replicas", got)
		}
	})
}

// Who asks hears which replicas of a node would find no other one.
func TestReplicasThatWouldBeStranded(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1", "n2")
		service := web(2)
		a.put(t, service)
		a.live(t, 30*time.Second)
		stranded := func() []resources.Stranded {
			return ask[[]resources.Stranded](t, s, http.MethodGet, "/v1/nodes/n1/stranded", nil)
		}
		if got := stranded(); len(got) != 0 {
			t.Errorf("with room elsewhere: %+v", got)
		}
		service.Placement = &resources.Placement{MaxReplicasPerNode: 1}
		a.put(t, service)
		a.live(t, 30*time.Second)
		got := stranded()
		if len(got) != 1 || got[0].Service != "web" || !strings.Contains(got[0].Reason, "0 of 2 nodes fit") {
			t.Errorf("without: %+v", got)
		}
		if problem := tryAsk(t, s, http.MethodGet, "/v1/nodes/n9/stranded", nil); problem == nil {
			t.Error("a node that is not there is known")
		}
	})
}

// A drained node's replicas leave one after the other.
func TestADrainedNodeIsEmptied(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1", "n2")
		a.put(t, web(4))
		a.live(t, 30*time.Second)
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1/availability", resources.NodeDrained)
		for range 20 {
			a.live(t, Heartbeat)
			status := ask[resources.ServiceStatus](t, s, http.MethodGet, "/v1/services/web", nil)
			if status.Ready < 3 {
				t.Fatalf("%d of 4 replicas are ready while n1 is drained", status.Ready)
			}
		}
		node := ask[resources.NodeStatus](t, s, http.MethodGet, "/v1/nodes/n1", nil)
		if node.Replicas != 0 || node.Availability != resources.NodeDrained {
			t.Errorf("n1 has %d replicas, and is %q", node.Replicas, node.Availability)
		}
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1/availability", resources.NodeActive)
		if problem := tryAsk(t, s, http.MethodPut, "/v1/nodes/n1/availability", "away"); problem == nil {
			t.Error("an availability that nobody knows is taken")
		}
	})
}
