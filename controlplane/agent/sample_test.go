package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/cgroup"
	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/resources"
)

// fakeMeter tells what it is told to.
type fakeMeter struct {
	mu    sync.Mutex // guards all below
	usage cgroup.Usage
	err   error
	page  string
}

func (f *fakeMeter) Usage(resources.Container) (cgroup.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.usage, f.err
}

func (f *fakeMeter) Page(_ context.Context, _ resources.Container, port int, path string) (exposition.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if port != 80 || path != "/metrics" {
		return exposition.Page{}, errors.New("nobody listens")
	}
	return exposition.Read(strings.NewReader(f.page))
}

func (f *fakeMeter) set(cpu time.Duration, memory resources.Bytes, page string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.usage, f.page = cgroup.Usage{CPU: cpu, Memory: memory}, page
}

func (n *nodeServer) PutSamples(_ context.Context, _ resources.NodeID, samples []resources.Sample) error {
	n.samples = append(n.samples, samples...)
	return nil
}

// Only what is ordered is measured, and only what it comes to is told: counters
// and processor time as rates.
func TestSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, f, r := newAgent(t, &fakePlane{}), newFake(), replica(resources.RestartAlways)
		r.Service = "web"
		server, meter := &nodeServer{}, &fakeMeter{page: "jobs 3\ndone_total 10\n"}
		a.Server, a.loop.runtime, a.Meter = server, f, meter
		a.cluster.ID = "c1"
		f.containers["c"] = &resources.Container{ID: "c", Replica: r.ID, Running: true, StartedAt: time.Now().Add(-time.Hour), PID: 0}
		var running sync.WaitGroup
		running.Go(func() { a.loop.run(ctx) }) //nolint:errcheck // it ends with ctx
		running.Go(func() { a.sample(ctx) })
		a.loop.assign(resources.Assignment{Replicas: []resources.Replica{r}})
		advance(resources.ScalePeriod + time.Second)
		if len(server.samples) > 0 {
			t.Errorf("it measures what nobody has ordered: %v", server.samples)
		}
		jobs, done := resources.Metric{Name: "jobs", Port: 80}, resources.Metric{Name: "done_total", Port: 80}
		other := resources.Metric{Name: "jobs", Port: 81}
		a.loop.assign(resources.Assignment{
			Replicas: []resources.Replica{r},
			Samples:  []resources.SampleOrder{{Service: "web", Usage: true, Metrics: []resources.Metric{jobs, done, other}}},
		})
		page := "# TYPE jobs gauge\njobs %\n# TYPE done_total counter\ndone_total "
		meter.set(time.Second, 1000, strings.Replace(page, "%", "3", 1)+"10\n")
		advance(resources.ScalePeriod)
		meter.set(2500*time.Millisecond, 2000, strings.Replace(page, "%", "4", 1)+"40\n")
		advance(resources.ScalePeriod)
		cancel()
		running.Wait()
		problems := map[string]string{other.String(): "replica " + string(r.ID) + ": nobody listens"}
		want := []resources.Sample{
			{Replica: r.ID, Values: map[string]float64{"memory": 1000, jobs.String(): 3}, Problems: problems},
			{Replica: r.ID, Span: resources.Duration(resources.ScalePeriod), Values: map[string]float64{"cpu": 100, "memory": 2000, jobs.String(): 4, done.String(): 2}, Problems: problems},
		}
		if diff := cmp.Diff(want, server.samples); diff != "" {
			t.Errorf("samples (-want +got):\n%s", diff)
		}
	})
}
