package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/cgroup"
	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/resources"
)

// Meter measures what the running containers of a node use, and reads the
// metrics that they expose.
type Meter interface {
	Usage(c resources.Container) (cgroup.Usage, error)
	Page(ctx context.Context, c resources.Container, port int, path string) (exposition.Page, error)
}

const (
	// pagePatience is how long a replica may take to show its metrics, and
	// pagesAtOnce how many are asked at once.
	pagePatience = 5 * time.Second
	pagesAtOnce  = 16
)

// kernelMeter asks the kernel, and the replicas themselves.
type kernelMeter struct{ cgroups cgroup.Reader }

func newKernelMeter() Meter { return kernelMeter{cgroup.New(os.DirFS("/"))} }

func (k kernelMeter) Usage(c resources.Container) (cgroup.Usage, error) {
	return k.cgroups.Usage(c.PID)
}

func (k kernelMeter) Page(ctx context.Context, c resources.Container, port int, path string) (exposition.Page, error) {
	if c.Address == "" {
		return exposition.Page{}, errors.New("the container has no address")
	}
	return exposition.Fetch(ctx, prober, "http://"+net.JoinHostPort(c.Address, strconv.Itoa(port))+path)
}

// measurable is a running container of which something is to be measured.
type measurable struct {
	container resources.Container
	order     resources.SampleOrder
}

// run names one run of a container.
func (m measurable) run() string {
	return m.container.ID + m.container.StartedAt.String()
}

// measurables lists what is to be measured, by the latest listing. It belongs to
// the loop's goroutine.
func (l *loop) measurables() []measurable {
	if len(l.orders) == 0 {
		return nil
	}
	var all []measurable
	for id, u := range l.units {
		order, ordered := l.orders[u.replica.Service]
		if c := l.listed.containers[id]; ordered && u.replica.Wanted && c.Running {
			all = append(all, measurable{c, order})
		}
	}
	slices.SortFunc(all, func(a, b measurable) int {
		return strings.Compare(string(a.container.Replica), string(b.container.Replica))
	})
	return all
}

func (l *loop) order(orders []resources.SampleOrder) {
	l.orders = map[string]resources.SampleOrder{}
	for _, o := range orders {
		l.orders[o.Service] = o
	}
}

// toMeasure gives what was published last.
func (l *loop) toMeasure() []measurable {
	l.reported.Lock()
	defer l.reported.Unlock()
	return l.measured
}

// gauge is what has to be known of a run to turn counters into rates.
type gauge struct {
	cpu      time.Duration
	at       time.Time
	counters map[string]*exposition.Rate
}

// sampling measures replicas, each period.
type sampling struct {
	meter  Meter
	gauges map[string]*gauge // by run
}

// sample measures what autoscaled services use, and tells the server, each
// period until ctx ends. Only what it comes to for each replica is told.
func (a *Agent) sample(ctx context.Context) {
	s := sampling{meter: a.Meter, gauges: map[string]*gauge{}}
	tick := time.NewTicker(resources.ScalePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		all := a.loop.toMeasure()
		samples := s.take(ctx, all)
		if len(samples) == 0 || ctx.Err() != nil {
			continue
		}
		a.mu.Lock()
		id, member := a.node.ID, a.cluster.ID != "" && !a.left
		a.mu.Unlock()
		if !member {
			continue
		}
		telling, cancel := context.WithTimeout(ctx, reportPatience)
		// A server of an earlier version has no use for them, and one that can't be
		// reached hears the next ones.
		if err := a.Server.PutSamples(telling, id, samples); err != nil && !api.IsNotImplemented(err) && ctx.Err() == nil {
			a.Log.Debug("nobody hears what replicas use", "err", err)
		}
		cancel()
	}
}

// take measures all, and forgets runs that are over.
func (s *sampling) take(ctx context.Context, all []measurable) []resources.Sample {
	known := s.gauges
	s.gauges = make(map[string]*gauge, len(all))
	samples := make([]resources.Sample, len(all))
	room := make(chan struct{}, pagesAtOnce)
	var measuring sync.WaitGroup
	for i, m := range all {
		g := known[m.run()]
		if g == nil {
			g = &gauge{counters: map[string]*exposition.Rate{}}
		}
		s.gauges[m.run()] = g
		measuring.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			samples[i] = s.one(ctx, m, g)
		})
	}
	measuring.Wait()
	return samples
}

// one measures one replica.
func (s *sampling) one(ctx context.Context, m measurable, g *gauge) resources.Sample {
	now := time.Now()
	sample := resources.Sample{Replica: m.container.Replica, Values: map[string]float64{}, Problems: map[string]string{}}
	if !g.at.IsZero() {
		sample.Span = resources.Duration(now.Sub(g.at))
	}
	if m.order.Usage {
		s.usage(&sample, m, g, now)
	}
	g.at = now
	pages := map[string]exposition.Page{}
	for _, metric := range m.order.Metrics {
		at := fmt.Sprintf("%d%s", metric.Port, metric.PagePath())
		page, read := pages[at]
		var err error
		if !read {
			page, err = s.page(ctx, m, metric)
		}
		if err == nil {
			pages[at] = page
			err = g.read(&sample, page, metric)
		}
		if err != nil {
			sample.Problems[metric.String()] = fmt.Sprintf("replica %s: %v", m.container.Replica, err)
		}
	}
	return sample
}

// read takes the value of a metric from its page. A counter has none before it
// was read twice.
func (g *gauge) read(sample *resources.Sample, page exposition.Page, metric resources.Metric) error {
	value, counter, err := page.Value(metric)
	if err != nil {
		return err
	}
	name, rated := metric.String(), true
	if counter {
		if g.counters[name] == nil {
			g.counters[name] = &exposition.Rate{}
		}
		value, rated = g.counters[name].Next(value, time.Now())
	}
	if rated && !math.IsInf(value, 0) {
		sample.Values[name] = value
	}
	return nil
}

func (s *sampling) page(ctx context.Context, m measurable, metric resources.Metric) (exposition.Page, error) {
	asking, cancel := context.WithTimeout(ctx, pagePatience)
	defer cancel()
	page, err := s.meter.Page(asking, m.container, metric.Port, metric.PagePath())
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s", pagePatience)
	}
	return page, err
}

func (s *sampling) usage(sample *resources.Sample, m measurable, g *gauge, now time.Time) {
	used, err := s.meter.Usage(m.container)
	if err != nil {
		sample.Problems[resources.SampleCPU] = err.Error()
		sample.Problems[resources.SampleMemory] = err.Error()
		return
	}
	sample.Values[resources.SampleMemory] = float64(used.Memory)
	if span := now.Sub(g.at); !g.at.IsZero() && span > 0 && used.CPU >= g.cpu {
		sample.Values[resources.SampleCPU] = 1000 * float64(used.CPU-g.cpu) / float64(span)
	}
	g.cpu = used.CPU
}
