package autoscale

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

func anyShares(t *rapid.T, label string) []resources.Share {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) resources.Share {
		return resources.Share{Amount: rapid.IntRange(1, 120).Draw(t, "amount"), Percent: rapid.Bool().Draw(t, "percent"), Given: true}
	}), 0, 2).Draw(t, label)
}

func anyDuration(t *rapid.T, most time.Duration, label string) resources.Duration {
	return resources.Duration(rapid.IntRange(0, int(most/time.Second)).Draw(t, label)) * resources.Duration(time.Second)
}

func anySpec(t *rapid.T) *resources.Autoscale {
	a := &resources.Autoscale{
		Min: rapid.IntRange(1, 5).Draw(t, "min"), CPU: rapid.IntRange(1, 80).Draw(t, "cpu"),
		Tolerance: resources.Share{Amount: rapid.IntRange(0, 20).Draw(t, "tolerance"), Percent: true, Given: true},
	}
	a.Max = a.Min + rapid.IntRange(0, 40).Draw(t, "more")
	if rapid.Bool().Draw(t, "has up") {
		a.Up = &resources.ScaleUp{Window: anyDuration(t, 2*time.Minute, "up window"), Period: 1e9 + anyDuration(t, time.Minute, "up period"), Steps: anyShares(t, "up steps")}
	}
	if rapid.Bool().Draw(t, "has down") {
		a.Down = &resources.ScaleDown{Window: anyDuration(t, 5*time.Minute, "down window"), Period: 1e9 + anyDuration(t, time.Minute, "down period"), Steps: anyShares(t, "down steps")}
	}
	if rapid.Bool().Draw(t, "has a metric") {
		a.Metrics = []resources.Metric{{Name: "q", Port: 1, TargetAverage: rapid.Float64Range(0.1, 100).Draw(t, "target")}}
	}
	if rapid.Bool().Draw(t, "has a schedule") {
		a.Schedules = []resources.ScaleSchedule{{At: "*/7 * * * *", For: anyDuration(t, 5*time.Minute, "for"), Min: rapid.IntRange(1, a.Max).Draw(t, "floor")}}
	}
	return a
}

func anyReplica(t *rapid.T, now time.Time, signals int) Replica {
	r := Replica{Running: rapid.IntRange(0, 9).Draw(t, "running") > 0, Started: now.Add(-time.Duration(anyDuration(t, 20*time.Minute, "age")))}
	if r.Running && rapid.IntRange(0, 4).Draw(t, "ready") > 0 {
		r.Ready, r.ReadySince = true, r.Started.Add(3*time.Second)
	}
	r.Since = now.Add(-15 * time.Second)
	for range signals {
		v := rapid.Float64Range(0, 120).Draw(t, "value")
		if rapid.IntRange(0, 9).Draw(t, "missing") == 0 {
			v = math.NaN()
		}
		r.Values = append(r.Values, v)
	}
	return r
}

// Whatever is measured: the count stays within its bounds, or goes straight to
// them; it keeps to its steps and windows; it does not depend on the order of the
// replicas, nor change what it was given.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anySpec(t)
		count, history, now := rapid.IntRange(0, 50).Draw(t, "count"), History{}, noon
		counts := map[time.Time]int{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			in := Input{Autoscale: a, Reserved: reserved, Count: count, History: history}
			for range max(0, count-rapid.IntRange(0, 1).Draw(t, "unmade")) {
				in.Replicas = append(in.Replicas, anyReplica(t, now, len(Signals(a))))
			}
			d, next := Plan(in, now)
			in.Replicas = reversed(in.Replicas)
			again, _ := Plan(in, now)
			if diff := cmp.Diff(d.To, again.To); diff != "" {
				t.Fatalf("it depends on the order of the replicas: %s", diff)
			}
			if again, _ = Plan(in, now); again.To != d.To {
				t.Fatal("it changes what it was given")
			}
			if d.To < a.Min || d.To > a.Max || d.To < d.Floor {
				t.Fatalf("it goes from %d to %d, out of %d to %d", count, d.To, d.Floor, a.Max)
			}
			keepsPace(t, a, d, counts, now)
			history = next.Moved(d.From, d.To, now)
			counts[now] = d.From
			count, now = d.To, now.Add(resources.ScalePeriod)
		}
	})
}

func reversed(all []Replica) []Replica {
	var back []Replica
	for i := range all {
		back = append(back, all[len(all)-1-i])
	}
	return back
}

// keepsPace checks a decision within its bounds against windows and steps. counts
// are those before earlier decisions.
func keepsPace(t *rapid.T, a *resources.Autoscale, d resources.ScaleDecision, counts map[time.Time]int, now time.Time) {
	if d.From < d.Floor || d.From > a.Max || d.To == d.From || d.To == d.Floor && d.Floor > a.Min {
		return
	}
	down := a.DownPace()
	// What a schedule has added goes when it ends.
	if d.To < d.From && now.Before(noon.Add(down.Window)) && len(a.Schedules) == 0 && counts[noon] <= a.Max {
		t.Fatalf("it removes replicas %s after it began, and has yet to see %s", now.Sub(noon), down.Window)
	}
	if up := a.UpPace(); d.To > d.From {
		if now.Before(noon.Add(up.Window)) {
			t.Fatalf("it adds replicas %s after it began, and has yet to see %s", now.Sub(noon), up.Window)
		}
		most := 0
		for at, count := range counts {
			if at.After(now.Add(-up.Period)) {
				most = max(most, count)
			}
		}
		most = max(most, d.From)
		limit := 1
		for _, step := range up.Steps {
			by := step.Amount
			if step.Percent {
				by = (most*step.Amount + 99) / 100
			}
			limit = max(limit, most+by)
		}
		if d.To > limit {
			t.Fatalf("it goes from %d to %d, and there were at most %d within %s", d.From, d.To, most, up.Period)
		}
	}
}

// A demand that stays leads to a count that stays, and serves it: as few replicas
// as keep to the target, but for the tolerance.
func TestItComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &walk{spec: anySpec(t), count: rapid.IntRange(1, 40).Draw(t, "count"), now: noon}
		w.spec.Metrics, w.spec.Schedules = nil, nil
		demand := rapid.Float64Range(0, 3000).Draw(t, "demand")
		for range 600 {
			w.step(demand)
		}
		rest := w.count
		for range 100 {
			if w.step(demand) != rest {
				t.Fatalf("%g leads to %d, and then to %d: %+v", demand, rest, w.count, w.last)
			}
		}
		target, tolerance := float64(w.spec.CPU), w.spec.ToleratedRatio()
		most := demand / float64(rest) // of each replica
		switch {
		case most > 100 && rest < w.spec.Max && target*(1+tolerance) < 100:
			t.Fatalf("%d replicas are overloaded by %g, and more are allowed", rest, demand)
		case most <= 100 && most > target*(1+tolerance)+1e-6 && rest < w.spec.Max:
			t.Fatalf("%d replicas use %g each, more than %g", rest, most, target)
		case rest > w.spec.Min && rest > 1 && demand/float64(rest-1) < target*(1-tolerance)-1e-6 && most < target*(1-tolerance)-1e-6:
			t.Fatalf("%d replicas use %g each; fewer than that would do for %g", rest, most, target)
		}
	})
}

// Demand that moves within the tolerance of a count changes nothing.
func TestItDoesNotFollowNoise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &walk{spec: spec(), count: rapid.IntRange(1, 18).Draw(t, "count"), now: noon}
		begun := w.count
		for range 200 {
			noise := rapid.Float64Range(-0.0999, 0.0999).Draw(t, "noise")
			if w.step(float64(begun)*50*(1+noise)) != begun {
				t.Fatalf("noise of %g moves it: %+v", noise, w.last)
			}
		}
	})
}

// A day: the demand rises and falls as the sun, with noise, and twice with a peak.
// Replicas are enough but for moments, not many more than needed, and their number
// does not flap.
func TestDay(t *testing.T) {
	a := &resources.Autoscale{Min: 2, Max: 60, CPU: 60, Tolerance: share("10%")}
	w := &walk{spec: a, count: 2, now: noon.Truncate(24 * time.Hour)}
	noise := uint32(1)
	var needed, had, short, turns, changes, last float64
	steps := int(24 * time.Hour / resources.ScalePeriod)
	for i := range steps {
		day := float64(i) / float64(steps)
		demand := 200 + 2300*math.Pow(math.Sin(math.Pi*day), 2)
		if hour := day * 24; hour > 9 && hour < 9.25 || hour > 19 && hour < 19.5 {
			demand *= 1.3
		}
		noise = noise*1664525 + 1013904223
		demand *= 1 + 0.05*(float64(noise)/math.MaxUint32*2-1)
		before := w.count
		needed += demand / 60
		had += float64(before)
		if demand > 100*float64(before) {
			short++
		}
		w.step(demand)
		if by := float64(w.count - before); by != 0 {
			changes++
			if by*last < 0 {
				turns++
			}
			last = by
		}
	}
	t.Logf("%.2f times what is needed; too few in %.0f of %d periods; %.0f changes, %.0f of direction", had/needed, short, steps, changes, turns)
	if had/needed > 1.15 || short > 8 || turns > 12 {
		t.Error("the day does not go as it should")
	}
}

func BenchmarkPlan(b *testing.B) {
	a := spec()
	a.Memory, a.Up, a.Down = 70, nil, nil
	in := Input{Autoscale: a, Reserved: reserved, Count: 20, Replicas: several(20, ready(55, 60*float64(resources.MiB)))}
	for i := range 20 {
		_, in.History = Plan(in, noon.Add(time.Duration(i)*resources.ScalePeriod))
	}
	now := noon.Add(20 * resources.ScalePeriod)
	for b.Loop() {
		Plan(in, now)
	}
}
