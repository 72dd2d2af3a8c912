package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestSkewed(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration
		held  bool
		want  string
	}{
		{"right", 0, false, ""},
		{"at the limit", 2 * time.Second, false, ""},
		{"ahead", 2*time.Second + time.Millisecond, false, "2s ahead of"},
		{"behind", -3 * time.Hour, false, "3h0m0s behind"},
		{"still wrong", 1100 * time.Millisecond, true, "1.1s ahead of"},
		{"right again", -time.Second, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := skewed(c.ahead, c.held)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

// nodeServer is a server that keeps what a node says of itself, and of its
// replicas.
type nodeServer struct {
	Server
	assigned resources.Assignment
	said     []resources.NodeInfo
	statuses []resources.ReplicaStatus
	samples  []resources.Sample
}

func (n *nodeServer) PutNode(_ context.Context, node resources.NodeInfo) error {
	n.said = append(n.said, node)
	return nil
}

func (n *nodeServer) PutStatus(_ context.Context, _ resources.NodeID, statuses []resources.ReplicaStatus, _ int64) error {
	n.statuses = append(n.statuses, statuses...)
	return nil
}

func (n *nodeServer) WatchAssignment(ctx context.Context, _ resources.NodeID, see func(resources.Assignment)) error {
	see(n.assigned)
	<-ctx.Done()
	return ctx.Err()
}

func (n *nodeServer) WatchNetwork(ctx context.Context, _ resources.NodeID, _ func(resources.NetworkMap)) error {
	<-ctx.Done()
	return ctx.Err()
}

// A condition reaches the server with the next heartbeat, and its end does.
func TestTheServerHearsOfConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, ahead := &nodeServer{}, atomic.Int64{}
		a := newAgent(t, &fakePlane{})
		a.Server, a.Skew = server, func() (time.Duration, bool) { return time.Duration(ahead.Load()), true }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go a.loop.run(ctx) //nolint:errcheck // it ends with ctx
		go func() { done <- a.attend(ctx, nil) }()
		for _, by := range []time.Duration{0, time.Minute, 0} {
			ahead.Store(int64(by))
			advance(2 * heartbeat)
		}
		cancel()
		<-done //nolint:errcheck // it was ended
		var heard []bool
		for _, node := range server.said {
			heard = append(heard, node.Has(resources.ClockSkew))
		}
		if diff := cmp.Diff([]bool{false, true, false}, heard); diff != "" {
			t.Errorf("what the server hears of the clock (-want +got):\n%s", diff)
		}
	})
}

// What runs since before the agent does is not said to wait for anything before
// the agent has looked: nobody would be led to it until then.
func TestARestartedAgentLooksBeforeItReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, f, r := newAgent(t, &fakePlane{}), newFake(), replica(resources.RestartAlways)
		server := &nodeServer{assigned: resources.Assignment{Replicas: []resources.Replica{r}}}
		f.containers["c"] = &resources.Container{ID: "c", Replica: r.ID, Running: true, StartedAt: time.Now().Add(-time.Hour)}
		f.hang.Store(true)
		a.Server, a.loop.runtime = server, f
		done := make(chan error)
		go a.loop.run(ctx) //nolint:errcheck // it ends with ctx
		go func() { done <- a.attend(ctx, nil) }()
		advance(listTimeout / 2)
		if len(server.said) != 1 || len(server.statuses) > 0 {
			t.Errorf("before it has looked it registers %d times, and says %v", len(server.said), server.statuses)
		}
		f.hang.Store(false)
		advance(listTimeout)
		cancel()
		<-done //nolint:errcheck // it was ended
		for _, s := range server.statuses {
			if s.State != resources.ReplicaRunning || s.NotReady {
				t.Errorf("it says %v", s)
			}
		}
		if len(server.statuses) == 0 {
			t.Error("it never says anything")
		}
		synctest.Wait()
	})
}

func TestAWrongClockIsACondition(t *testing.T) {
	ahead, known := time.Duration(0), true
	a := &Agent{
		Config:     Config{Log: slog.New(slog.DiscardHandler), Skew: func() (time.Duration, bool) { return ahead, known }},
		conditions: map[resources.NodeConditionType]resources.NodeCondition{},
	}
	for _, step := range []struct {
		ahead time.Duration
		known bool
		want  bool
	}{{time.Second, true, false}, {time.Minute, false, false}, {-time.Minute, true, true}, {0, false, true}, {0, true, false}} {
		ahead, known = step.ahead, step.known
		a.compareClocks()
		if _, got := a.conditions[resources.ClockSkew]; got != step.want {
			t.Errorf("%s ahead (known: %t): the condition holds: %t", step.ahead, step.known, got)
		}
	}
}
