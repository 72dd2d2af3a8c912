package autoscale

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func share(text string) resources.Share {
	s, err := resources.ParseShare(text)
	if err != nil {
		panic(err)
	}
	return s
}

// spec is what most tests scale by: processor time at half of 100m, at once in
// both directions.
func spec() *resources.Autoscale {
	return &resources.Autoscale{
		Min: 1, Max: 20, CPU: 50, Tolerance: share("10%"),
		Up: &resources.ScaleUp{Period: 15e9, Steps: []resources.Share{share("100")}}, Down: &resources.ScaleDown{Period: 15e9},
	}
}

var reserved = resources.Reservation{CPU: 100, Memory: 100 * resources.MiB}

// ready is a replica that was ready long before.
func ready(values ...float64) Replica {
	return Replica{Running: true, Ready: true, Started: noon.Add(-time.Hour), ReadySince: noon.Add(-time.Hour), Since: noon.Add(-15 * time.Second), Values: values}
}

func missing() Replica { return ready(math.NaN()) }

// pending has no container yet, and starting has one that is not ready.
func pending() Replica { return Replica{Values: []float64{math.NaN()}} }

func starting(value float64) Replica {
	r := ready(value)
	r.Ready, r.Started, r.ReadySince = false, noon.Add(-20*time.Second), time.Time{}
	return r
}

func several(n int, r Replica) []Replica {
	all := make([]Replica, n)
	for i := range all {
		all[i] = r
	}
	return all
}

func all(lists ...[]Replica) []Replica {
	var together []Replica
	for _, l := range lists {
		together = append(together, l...)
	}
	return together
}

// The cases are those that Kubernetes documents for its algorithm
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details).
// The target is 50m for each replica.
func TestReadings(t *testing.T) {
	for _, c := range []struct {
		name     string
		replicas []Replica
		want     int
		problem  bool
	}{
		{"twice the target doubles", several(2, ready(100)), 4, false},
		{"half the target halves", several(4, ready(25)), 2, false},
		{"what is left is rounded up", several(3, ready(30)), 2, false},
		{"on the target", several(3, ready(50)), 3, false},
		{"within the tolerance above", several(3, ready(55)), 3, false},
		{"just beyond it", several(3, ready(56)), 4, false},
		{"within the tolerance below", several(3, ready(45)), 3, false},
		{"just beyond it below", several(10, ready(44)), 9, false},
		{"nothing is used", several(4, ready(0)), 0, false},

		// "If there were any missing metrics, we recompute the average more
		// conservatively, assuming those pods were consuming 100% of the desired value
		// in case of a scale down, and 0% in case of a scale up." The program itself
		// takes what is reserved, where that is more; and so does this.
		{"missing ones damp growth", all(several(2, ready(100)), several(1, missing())), 4, false},
		{"missing ones stop growth", all(several(2, ready(60)), several(1, missing())), 3, false},
		{"missing ones that would turn growth round", all(several(1, ready(60)), several(3, missing())), 4, false},
		{"missing ones damp shrinking", all(several(3, ready(10)), several(1, missing())), 3, false},
		{"missing ones that would turn shrinking round", all(several(1, ready(40)), several(3, missing())), 4, false},
		{"all are missing", several(3, missing()), 3, true},

		// "If any pods are not yet ready, they are set aside ... assuming the
		// not-yet-ready pods are consuming 0% of the desired metric" for a scale up.
		{"unready ones damp growth", all(several(2, ready(100)), several(1, starting(100))), 4, false},
		{"unready ones stop growth", all(several(2, ready(100)), several(2, starting(100))), 4, false},
		{"pending ones stop growth", all(several(2, ready(100)), several(2, pending())), 4, false},
		{"so many that it would turn round", all(several(1, ready(100)), several(5, pending())), 6, false},
		{"unready ones don't count for shrinking", all(several(4, ready(10)), several(1, starting(100))), 1, false},
		{"none is ready", several(3, starting(100)), 3, true},
		{"missing and unready ones", all(several(3, ready(100)), several(1, missing()), several(1, pending())), 6, false},
		{"replicas that have yet to be made", several(2, ready(100)), 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Autoscale: spec(), Reserved: reserved, Count: len(c.replicas), Replicas: c.replicas}
			got := in.read(0, Signals(in.Autoscale)[0], noon)
			if got.Wants != c.want || (got.Problem != "") != c.problem {
				t.Errorf("it asks for %d, want %d: %+v", got.Wants, c.want, got)
			}
		})
	}
}

// What a replica uses while it starts does not count; what it uses later does,
// even where it is not ready any more.
func TestUnready(t *testing.T) {
	cpu, memory := Signal{Name: resources.SampleCPU}, Signal{Name: resources.SampleMemory}
	just := ready(1)
	just.Started, just.ReadySince = noon.Add(-time.Minute), noon.Add(-10*time.Second)
	since := just
	since.Since = just.ReadySince
	overloaded := ready(1)
	overloaded.Ready, overloaded.ReadySince = false, time.Time{}
	for _, c := range []struct {
		name string
		r    Replica
		of   Signal
		want bool
	}{
		{"ready for long", ready(1), cpu, false},
		{"pending", pending(), cpu, true},
		{"pending, memory", pending(), memory, true},
		{"starting", starting(1), cpu, true},
		{"starting, memory", starting(1), memory, false},
		{"its first measurement has its start in it", just, cpu, true},
		{"its next one doesn't", since, cpu, false},
		{"not ready any more", overloaded, cpu, false},
	} {
		if got := c.r.unready(c.of, noon); got != c.want {
			t.Errorf("%s: unready is %v", c.name, got)
		}
	}
}

func metricSpec(m resources.Metric) *resources.Autoscale {
	a := spec()
	a.CPU, a.Metrics = 0, []resources.Metric{m}
	return a
}

func TestMetrics(t *testing.T) {
	inside := resources.Metric{Name: "queue", Port: 80}
	outside := resources.Metric{Name: "queue", URL: "http://q/"}
	average := func(m resources.Metric, v float64) *resources.Autoscale { m.TargetAverage = v; return metricSpec(m) }
	total := func(m resources.Metric, v float64) *resources.Autoscale { m.TargetTotal = v; return metricSpec(m) }
	empty := func(a *resources.Autoscale) *resources.Autoscale { a.Min = 0; return a }
	nan := math.NaN()
	for _, c := range []struct {
		name     string
		spec     *resources.Autoscale
		replicas []Replica
		outside  float64
		want     int
		problem  bool
	}{
		{"average of what replicas expose", average(inside, 10), several(2, ready(30)), nan, 6, false},
		{"sum of what they expose", total(inside, 10), several(2, ready(10)), nan, 4, false},
		{"sum with one missing does not shrink", total(inside, 100), all(several(2, ready(10)), several(1, missing())), nan, 3, false},
		{"outside, for each replica", average(outside, 10), several(2, ready(0)), 45, 5, false},
		{"outside, within the tolerance", average(outside, 10), several(4, ready(0)), 43, 4, false},
		{"outside, in all", total(outside, 10), several(2, ready(0)), 20, 4, false},
		{"outside, none is ready", total(outside, 10), several(2, pending()), 20, 2, false},
		{"outside, not read", average(outside, 10), several(2, ready(0)), nan, 2, true},
		{"outside, nothing to do", empty(average(outside, 10)), several(2, ready(0)), 0, 0, false},
		{"outside, from none", empty(average(outside, 10)), nil, 1, 1, false},
		{"outside, from none to several", empty(average(outside, 10)), nil, 31, 4, false},
		{"outside, in all, from none", empty(total(outside, 10)), nil, 1, 1, false},
		{"outside, none is needed", empty(average(outside, 10)), nil, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Autoscale: c.spec, Reserved: reserved, Count: len(c.replicas), Replicas: c.replicas, Outside: []float64{c.outside}}
			got := in.read(0, Signals(in.Autoscale)[0], noon)
			if got.Wants != c.want || (got.Problem != "") != c.problem {
				t.Errorf("it asks for %d, want %d: %+v", got.Wants, c.want, got)
			}
		})
	}
}

// The largest count is taken; what can't be measured removes nothing, and lets
// the others add.
func TestCombine(t *testing.T) {
	a := spec()
	a.Memory = 50
	high, low, nan := 100.0, 10.0, math.NaN()
	mem := func(percent float64) float64 { return percent * float64(resources.MiB) }
	for _, c := range []struct {
		name        string
		cpu, memory float64
		want        int
	}{
		{"both ask for less", low, mem(10), 1},
		{"one asks for more", low, mem(100), 8},
		{"the other does", high, mem(10), 8},
		{"one is not known, and the other asks for less", nan, mem(10), 4},
		{"one is not known, and the other asks for more", nan, mem(100), 8},
		{"neither is known", nan, nan, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Autoscale: a, Reserved: reserved, Count: 4, Replicas: several(4, ready(c.cpu, c.memory))}
			d, _ := Plan(in, noon)
			if d.Wants != c.want {
				t.Errorf("it wants %d, want %d: %+v", d.Wants, c.want, d)
			}
		})
	}
}

// walk plays a service whose replicas follow at once: use gives the whole demand
// in millicores at each period.
type walk struct {
	spec    *resources.Autoscale
	count   int
	history History
	now     time.Time
	last    resources.ScaleDecision
}

func (w *walk) step(demand float64) int {
	each := math.Min(demand/math.Max(float64(w.count), 1), 100)
	in := Input{Autoscale: w.spec, Reserved: reserved, Count: w.count, Replicas: several(w.count, ready(each)), History: w.history}
	d, history := Plan(in, w.now)
	w.history, w.last = history.Moved(d.From, d.To, w.now), d
	w.count = d.To
	w.now = w.now.Add(resources.ScalePeriod)
	return w.count
}

func (w *walk) steps(demands ...float64) []int {
	var counts []int
	for _, demand := range demands {
		counts = append(counts, w.step(demand))
	}
	return counts
}

func TestPaces(t *testing.T) {
	up := func(window time.Duration, steps ...string) func(*resources.Autoscale) {
		return func(a *resources.Autoscale) {
			a.Up = &resources.ScaleUp{Window: resources.Duration(window), Period: 30e9}
			for _, s := range steps {
				a.Up.Steps = append(a.Up.Steps, share(s))
			}
		}
	}
	down := func(window time.Duration, steps ...string) func(*resources.Autoscale) {
		return func(a *resources.Autoscale) {
			a.Down = &resources.ScaleDown{Window: resources.Duration(window), Period: 30e9}
			for _, s := range steps {
				a.Down.Steps = append(a.Down.Steps, share(s))
			}
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*resources.Autoscale)
		count   int
		demands []float64
		want    []int
	}{
		{"Kubernetes' steps: four, or as many as there are", func(a *resources.Autoscale) { a.Up = nil }, 1, []float64{2000, 2000, 2000, 2000}, []int{2, 4, 8, 16}},
		{"one in 30s", up(0, "1"), 1, []float64{2000, 2000, 2000, 2000, 2000}, []int{2, 2, 3, 3, 4}},
		{"half of what there was in 30s", up(0, "50%"), 4, []float64{2000, 2000, 2000}, []int{6, 6, 9}},
		{"a demand has to last for a minute", up(time.Minute, "100"), 2, []float64{1000, 1000, 1000, 1000, 1000}, []int{2, 2, 2, 2, 4}},
		{"a short one adds nothing", up(time.Minute, "100"), 2, []float64{1000, 1000, 100, 1000, 1000, 1000, 1000}, []int{2, 2, 2, 2, 2, 2, 4}},
		{"it is remembered for a minute", down(time.Minute), 8, []float64{400, 100, 100, 100, 100}, []int{8, 8, 8, 8, 2}},
		{"a new leader removes none before it has seen a minute", down(time.Minute), 8, []float64{100, 100, 100, 100, 100}, []int{8, 8, 8, 8, 2}},
		{"one in 30s less", down(0, "1"), 5, []float64{50, 50, 50, 50, 50}, []int{4, 4, 3, 3, 2}},
		{"a quarter in 30s less", down(0, "25%"), 8, []float64{50, 50, 50}, []int{6, 6, 4}},
		{"no more than max", func(a *resources.Autoscale) { a.Max = 5 }, 3, []float64{2000, 2000}, []int{5, 5}},
		{"no fewer than min", func(a *resources.Autoscale) { a.Min = 3 }, 5, []float64{0, 0}, []int{3, 3}},
		{"at once to a new min", func(a *resources.Autoscale) { a.Min = 9; up(time.Hour, "1")(a) }, 2, []float64{100}, []int{9}},
		{"at once to a new max", func(a *resources.Autoscale) { a.Max = 2; down(time.Hour, "1")(a) }, 9, []float64{2000}, []int{2}},
		{"within the tolerance nothing moves", func(*resources.Autoscale) {}, 4, []float64{185, 215, 183, 219, 181}, []int{4, 4, 4, 4, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &walk{spec: spec(), count: c.count, now: noon}
			c.change(w.spec)
			if diff := cmp.Diff(c.want, w.steps(c.demands...)); diff != "" {
				t.Errorf("counts (-want +got):\n%s\nat last: %+v", diff, w.last)
			}
		})
	}
}

// A schedule is a floor, whatever the steps and windows say, and goes away by
// them.
func TestSchedules(t *testing.T) {
	a := spec()
	a.Up, a.Down = nil, &resources.ScaleDown{Period: 15e9}
	a.Schedules = []resources.ScaleSchedule{{At: "1 12 * * *", For: resources.Duration(time.Minute), Min: 12}, {At: "0 12 * * *", For: resources.Duration(time.Minute), Min: 3}}
	w := &walk{spec: a, count: 1, now: noon}
	got := w.steps(40, 40, 40, 40, 40, 40, 40, 40, 40)
	if diff := cmp.Diff([]int{3, 3, 3, 3, 12, 12, 12, 12, 1}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	only := &resources.Autoscale{Min: 2, Max: 5, Tolerance: share("10%"), Schedules: a.Schedules[1:]}
	w = &walk{spec: only, count: 2, now: noon}
	if got := w.step(0); got != 3 {
		t.Errorf("with schedules alone it has %d", got)
	}
}

// A service may go to none and come back, by what is outside it.
func TestZero(t *testing.T) {
	a := metricSpec(resources.Metric{Name: "queue", URL: "http://q/", TargetAverage: 10})
	a.Min, a.CPU, a.Down = 0, 50, &resources.ScaleDown{Period: 15e9, Window: resources.Duration(30 * time.Second)}
	count, history, now := 2, History{}, noon
	var got []int
	for _, queued := range []float64{25, 0, 0, 0, 0, 1, 40, 40} {
		in := Input{Autoscale: a, Reserved: reserved, Count: count, Replicas: several(count, ready(1, math.NaN())), Outside: []float64{math.NaN(), queued}, History: history}
		d, h := Plan(in, now)
		history = h.Moved(d.From, d.To, now)
		count, now = d.To, now.Add(resources.ScalePeriod)
		got = append(got, count)
	}
	if diff := cmp.Diff([]int{3, 3, 0, 0, 0, 1, 4, 4}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// A decision explains itself.
func TestReasons(t *testing.T) {
	a := spec()
	a.Up, a.Down, a.Max = nil, nil, 30
	w := &walk{spec: a, count: 8, now: noon}
	w.step(2000)
	if w.last.To != 16 || w.last.Readings[0].Value != "100%" || w.last.Readings[0].Target != "50%" {
		t.Errorf("it says %+v", w.last)
	}
	w.step(100)
	if text := strings.Join(w.last.Reasons, "\n"); !strings.Contains(text, "16 for now") || !strings.Contains(text, "5m0s (down.window)") {
		t.Errorf("it says %q", text)
	}
	in := Input{Autoscale: a, Reserved: reserved, Count: 2, Replicas: several(2, missing()), Problems: []string{"the kernel counts nothing"}}
	if d, _ := Plan(in, noon); d.To != 2 || d.Readings[0].Problem != "the kernel counts nothing" {
		t.Errorf("it says %+v", d)
	}
}
