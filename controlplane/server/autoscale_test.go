package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func percent(n int) resources.Share { return resources.Share{Amount: n, Percent: true, Given: true} }

// scaledWeb is a service at half of its processor time.
func scaledWeb(replicas, fewest, most int) resources.Service {
	service := web(replicas)
	service.Autoscale = &resources.Autoscale{
		Min: fewest, Max: most, CPU: 50, Tolerance: percent(10), Down: &resources.ScaleDown{Window: resources.Duration(time.Minute)},
	}
	return service
}

// scaledNode is an agent on the virtual clock, whose replicas all use as much.
type scaledNode struct {
	*Server
	use float64 // in millicores of the service
}

func (n *scaledNode) status(t *testing.T) resources.ServiceStatus {
	t.Helper()
	return ask[resources.ServiceStatus](t, n.Server, http.MethodGet, "/v1/services/web", nil)
}

// live lets time go by, with heartbeats and samples.
func (n *scaledNode) live(t *testing.T, d time.Duration) (counts []int) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(Heartbeat) {
		a := ask[resources.Assignment](t, n.Server, http.MethodGet, "/v1/nodes/n1/assignment", nil)
		statuses, samples := []resources.ReplicaStatus{}, []resources.Sample{}
		wanted := 0
		for _, r := range a.Replicas {
			status := runs(r)
			if r.Wanted {
				wanted++
			}
			statuses = append(statuses, status)
		}
		for _, r := range a.Replicas {
			if r.Wanted && len(a.Samples) > 0 {
				samples = append(samples, resources.Sample{Replica: r.ID, Values: map[string]float64{resources.SampleCPU: min(100, n.use/float64(wanted))}})
			}
		}
		ask[any](t, n.Server, http.MethodPut, "/v1/nodes/n1/status", statuses)
		ask[any](t, n.Server, http.MethodPut, "/v1/nodes/n1/samples", samples)
		synctest.Wait()
		if count := n.status(t).Count; len(counts) == 0 || counts[len(counts)-1] != count {
			counts = append(counts, count)
		}
	}
	return counts
}

func (n *scaledNode) events(t *testing.T, reason string) (messages []string) {
	t.Helper()
	for _, e := range ask[[]resources.Event](t, n.Server, http.MethodGet, "/v1/events", nil) {
		if e.Reason == reason {
			messages = append(messages, e.Object+" "+e.Message)
		}
	}
	return messages
}

func scaledOn(t *testing.T, service resources.Service, room resources.MilliCPU, test func(t *testing.T, n *scaledNode)) {
	t.Helper()
	onAClock(t, admitting(t, "n1"), func(t *testing.T, s *Server) {
		n := &scaledNode{Server: s}
		info := nodeInfo("n1")
		info.Allocatable.CPU = room
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1", info)
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", []resources.ReplicaStatus{})
		ask[any](t, s, http.MethodPut, "/v1/services/web", service)
		test(t, n)
	})
}

func TestServicesFollowTheDemand(t *testing.T) {
	scaledOn(t, scaledWeb(1, 1, 8), 4000, func(t *testing.T, n *scaledNode) {
		n.use = 30
		if diff := cmp.Diff([]int{1}, n.live(t, 2*time.Minute)); diff != "" {
			t.Errorf("at rest (-want +got):\n%s", diff)
		}
		n.use = 300
		if diff := cmp.Diff([]int{1, 2, 4, 6}, n.live(t, 2*time.Minute)); diff != "" {
			t.Errorf("with more to do (-want +got):\n%s", diff)
		}
		if got := n.status(t); got.Service.Replicas != 1 || got.Ready != 6 || got.State != resources.ServiceRunning {
			t.Errorf("what the user wrote is %d, and %d are ready: %s", got.Service.Replicas, got.Ready, got.State)
		}
		n.use = 320 // within the tolerance
		if diff := cmp.Diff([]int{6}, n.live(t, 5*time.Minute)); diff != "" {
			t.Errorf("with a little more (-want +got):\n%s", diff)
		}
		n.use = 30
		began := time.Now()
		if diff := cmp.Diff([]int{6, 1}, n.live(t, 2*time.Minute)); diff != "" {
			t.Errorf("with less %s (-want +got):\n%s", time.Since(began), diff)
		}
		if got := n.events(t, "Scaled"); len(got) != 4 || !strings.Contains(got[0], "service/web from 1 to 2 replicas: cpu is 100%, target 50%") {
			t.Errorf("events: %q", got)
		}
		status := ask[resources.AutoscaleStatus](t, n.Server, http.MethodGet, "/v1/services/web/autoscale", nil)
		if status.Count != 1 || len(status.Decisions) != keptDecisions {
			t.Errorf("it is explained by %+v", status)
		}
		moves := slices.DeleteFunc(status.Decisions, func(d resources.ScaleDecision) bool { return d.From == d.To })
		if len(moves) == 0 {
			t.Error("decisions that changed something are forgotten")
		}
	})
}

// Other bounds hold at once and make no new revision; and the count is neither
// what the user says later, nor lost.
func TestBoundsHoldAtOnce(t *testing.T) {
	scaledOn(t, web(3), 4000, func(t *testing.T, n *scaledNode) {
		n.use = 200
		n.live(t, 10*time.Second)
		put := func(s resources.Service) resources.ServiceStatus {
			if s.Autoscale != nil {
				s.Autoscale.Tolerance = percent(90)
			}
			return ask[resources.ServiceStatus](t, n.Server, http.MethodPut, "/v1/services/web", s)
		}
		for _, c := range []struct {
			name    string
			service resources.Service
			want    int
		}{
			{"it goes on with what it has", scaledWeb(1, 1, 8), 3},
			{"min", scaledWeb(1, 5, 8), 5},
			{"max", scaledWeb(1, 1, 4), 4},
			{"replicas mean nothing more", scaledWeb(7, 1, 4), 4},
			{"but without autoscale", web(2), 2},
		} {
			got := put(c.service)
			if got.Count != c.want || got.Revision != 1 {
				t.Errorf("%s: it is to have %d of revision %d", c.name, got.Count, got.Revision)
			}
			n.live(t, 10*time.Second)
			if got := n.status(t); len(got.Replicas) != c.want || got.State != resources.ServiceRunning {
				t.Errorf("%s: it has %d, and is %s", c.name, len(got.Replicas), got.State)
			}
		}
	})
	scaledOn(t, scaledWeb(3, 2, 8), 4000, func(t *testing.T, n *scaledNode) {
		if got := n.status(t).Count; got != 3 {
			t.Errorf("a new one begins with %d", got)
		}
	})
}

// Where the cluster has no room, the service gets as many as find a place, goes on
// running, and says what is short.
func TestNoRoom(t *testing.T) {
	scaledOn(t, scaledWeb(1, 1, 8), 350, func(t *testing.T, n *scaledNode) {
		n.use = 600
		if diff := cmp.Diff([]int{1, 2, 3}, n.live(t, 2*time.Minute)); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		if got := n.status(t); got.State != resources.ServiceRunning || len(got.Replicas) != 3 {
			t.Errorf("it is %s with %d replicas", got.State, len(got.Replicas))
		}
		got := n.events(t, "NoRoom")
		if len(got) == 0 || !strings.Contains(got[len(got)-1], "service/web it is to have 6 replicas, and the cluster has room for 0 more of 3: 0 of 1 nodes fit: 1 lack") || !strings.Contains(got[0], "cpu") {
			t.Errorf("events: %q", got)
		}
		status := ask[resources.AutoscaleStatus](t, n.Server, http.MethodGet, "/v1/services/web/autoscale", nil)
		if last := status.Decisions[len(status.Decisions)-1]; last.NoRoom == "" || last.Wants != 6 {
			t.Errorf("it is explained by %+v", last)
		}
		more := nodeInfo("n1")
		ask[any](t, n.Server, http.MethodPut, "/v1/nodes/n1", more)
		if diff := cmp.Diff([]int{3, 6, 8}, n.live(t, time.Minute)); diff != "" {
			t.Errorf("with more room (-want +got):\n%s", diff)
		}
	})
}

// A new leader does not know what was asked for before, and removes nothing until
// it has seen a whole window.
func TestANewLeaderRemovesNothingAtFirst(t *testing.T) {
	s := admitting(t, "n1")
	onAClock(t, s, func(t *testing.T, s *Server) {
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1", nodeInfo("n1"))
		ask[any](t, s, http.MethodPut, "/v1/nodes/n1/status", []resources.ReplicaStatus{})
		ask[any](t, s, http.MethodPut, "/v1/services/web", scaledWeb(6, 1, 8))
	})
	onAClock(t, s, func(t *testing.T, s *Server) {
		n := &scaledNode{Server: s, use: 30}
		if diff := cmp.Diff([]int{6}, n.live(t, 50*time.Second)); diff != "" {
			t.Errorf("within its first window (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int{6, 1}, n.live(t, time.Minute)); diff != "" {
			t.Errorf("later (-want +got):\n%s", diff)
		}
	})
}

// What is outside a service makes its first replica, and takes its last one.
func TestFromNothingAndBack(t *testing.T) {
	var queued atomic.Int64
	service := scaledWeb(0, 0, 5)
	service.Autoscale.CPU = 0
	service.Autoscale.Metrics = []resources.Metric{{Name: "queue", URL: "http://queue/metrics", TargetAverage: 10}}
	scaledOn(t, service, 4000, func(t *testing.T, n *scaledNode) {
		n.Fetch = func(context.Context, string) (exposition.Page, error) {
			if queued.Load() < 0 {
				return exposition.Page{}, errors.New("no route")
			}
			return exposition.Read(strings.NewReader(fmt.Sprintf("queue %d\n", queued.Load())))
		}
		for _, c := range []struct {
			queued int64
			want   int
		}{{0, 0}, {1, 1}, {42, 5}, {-1, 5}, {0, 0}} {
			queued.Store(c.queued)
			if got := n.live(t, 3*time.Minute); got[len(got)-1] != c.want {
				t.Errorf("with %d queued it has %d, want %d", c.queued, got, c.want)
			}
			if c.queued >= 0 {
				continue
			}
			status := ask[resources.AutoscaleStatus](t, n.Server, http.MethodGet, "/v1/services/web/autoscale", nil)
			if last := status.Decisions[len(status.Decisions)-1]; last.Readings[0].Problem != "no route" {
				t.Errorf("it is explained by %+v", last)
			}
		}
	})
}

// Of a service that shrinks, the replica goes that is missed least: where nothing
// runs, then where most of its kind are, then on the fullest node.
func TestTheReplicaThatIsMissedLeastGoes(t *testing.T) {
	s := &scene{t: t, seen: map[resources.ReplicaID]resources.ReplicaStatus{}}
	for _, name := range []string{"a", "b", "c"} {
		s.node(name)
	}
	s.service("other", 1, func(o *resources.Service) {
		o.Resources.CPU, o.Placement.Constraints = 500, []string{"node.name == c"}
	})
	s.service("web", 0, func(w *resources.Service) { w.Autoscale = &resources.Autoscale{Min: 1, Max: 9, CPU: 50} })
	var record resources.ServiceRecord
	scale := func(to int) {
		record = s.state().Services["web"]
		v := s.view()
		v.scaling = map[string]resources.ScaleDecision{"web": {From: record.Count(), To: to}}
		s.commit(decide(v).changes...)
	}
	record = s.state().Services["web"]
	now := resources.Scaled{}.To(4)
	record.Scaled = &now
	s.commit(store.PutService(record))
	var got []string
	for range 3 {
		s.step()
	}
	for to := 4; to >= 1; to-- {
		scale(to)
		s.step()
		got = append(got, strings.TrimSpace(s.step()))
	}
	want := []string{
		"other on c; web on a; web on a; web on b; web on c",
		"other on c; web on a; web on b; web on c",
		"other on c; web on a; web on b",
		"other on c; web on a",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}
