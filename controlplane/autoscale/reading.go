package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// initializing is how long after its start what a replica uses may be its start
// rather than its work: --horizontal-pod-autoscaler-cpu-initialization-period.
const initializing = 5 * time.Minute

// tally is the values of one signal over the replicas.
type tally struct {
	sum                        float64
	measured, unready, missing int
}

// unready is true where a replica's value does not count yet. As in Kubernetes,
// one that is being made never counts; the processor time of one that has just
// started counts once it is ready, and all that was measured is later than that.
// After a while whatever runs counts: a replica that was ready and is not any
// more may well be one that has too much to do.
func (r *Replica) unready(s Signal, now time.Time) bool {
	switch {
	case !r.Running:
		return true
	case s.Name != resources.SampleCPU || s.Metric != nil || now.Sub(r.Started) >= initializing:
		return false
	}
	return !r.Ready || r.Since.Before(r.ReadySince)
}

func (in *Input) tally(i int, s Signal, now time.Time) tally {
	var t tally
	for n := range in.Replicas {
		r := &in.Replicas[n]
		switch {
		case r.unready(s, now):
			t.unready++
		case i >= len(r.Values) || math.IsNaN(r.Values[i]):
			t.missing++
		default:
			t.measured++
			t.sum += r.Values[i]
		}
	}
	// A replica that has yet to be made is not ready.
	t.unready += max(0, in.Count-len(in.Replicas))
	return t
}

// read finds out how many replicas one signal asks for.
func (in *Input) read(i int, s Signal, now time.Time) resources.ScaleReading {
	if s.outside() {
		return in.readOutside(i, s)
	}
	r := resources.ScaleReading{Name: s.Name, Target: in.target(s), Wants: in.Count}
	t := in.tally(i, s, now)
	r.Measured, r.Unready, r.Missing = t.measured, t.unready, t.missing
	switch {
	case in.Count == 0:
		r.Wants, r.Note = 0, "no replica is there to be measured"
	case t.measured == 0:
		r.Problem = in.problem(i, "no replica that is ready was measured yet")
	case s.Metric != nil && s.Metric.TargetTotal > 0:
		in.readTotal(&r, s.Metric, t)
	default:
		in.readEach(&r, s, t)
	}
	return r
}

func (in *Input) problem(i int, otherwise string) string {
	if i < len(in.Problems) && in.Problems[i] != "" {
		return in.Problems[i]
	}
	return otherwise
}

// perReplica is what each replica should have of a signal, in the unit of its
// samples, and how much of that one that tells nothing is taken to have where
// replicas would be removed: Kubernetes takes all that it has reserved, or the
// target where that is no reservation.
func (in *Input) perReplica(s Signal) (target, fallback float64) {
	if s.Metric != nil {
		return s.Metric.TargetAverage, s.Metric.TargetAverage
	}
	reserved, percent := float64(in.Reserved.CPU), in.Autoscale.CPU
	if s.Name == resources.SampleMemory {
		reserved, percent = float64(in.Reserved.Memory), in.Autoscale.Memory
	}
	return reserved * float64(percent) / 100, reserved
}

// readEach compares the average with the target for each replica.
func (in *Input) readEach(r *resources.ScaleReading, s Signal, t tally) {
	target, fallback := in.perReplica(s)
	average := t.sum / float64(t.measured)
	r.Value, r.Ratio = in.describe(s, average), average/target
	first := r.Ratio
	counted := t.measured
	switch {
	case r.Ratio < 1 && t.missing > 0:
		t.sum += float64(t.missing) * fallback
		counted += t.missing
		r.Note = fmt.Sprintf("%d without a value are taken to use %s", t.missing, in.describe(s, fallback))
	case r.Ratio > 1 && t.missing+t.unready > 0:
		counted += t.missing + t.unready
		r.Note = fmt.Sprintf("%d not ready or without a value are taken to use nothing", t.missing+t.unready)
	}
	if counted != t.measured {
		r.Ratio = t.sum / float64(counted) / target
	}
	if in.tolerated(r.Ratio) || crosses(first, r.Ratio) {
		return
	}
	in.settle(r, ceil(r.Ratio*float64(counted)))
}

// readTotal compares the sum over the replicas with the target. One that tells
// nothing can't be told from one that has nothing, so the sum is at least that:
// no replica is removed while one is missing.
func (in *Input) readTotal(r *resources.ScaleReading, m *resources.Metric, t tally) {
	r.Value, r.Ratio = number(t.sum), t.sum/m.TargetTotal
	if in.tolerated(r.Ratio) {
		return
	}
	if r.Ratio < 1 && t.missing > 0 {
		r.Note = fmt.Sprintf("%d are without a value, so none is removed", t.missing)
		return
	}
	in.settle(r, ceil(r.Ratio*float64(t.measured)))
}

// readOutside takes a value that does not come from the replicas.
func (in *Input) readOutside(i int, s Signal) resources.ScaleReading {
	r := resources.ScaleReading{Name: s.Name, Target: in.target(s), Wants: in.Count}
	value := math.NaN()
	if i < len(in.Outside) {
		value = in.Outside[i]
	}
	if math.IsNaN(value) {
		r.Problem = in.problem(i, "it was not read yet")
		return r
	}
	r.Value = number(value)
	ready := 0
	for n := range in.Replicas {
		if in.Replicas[n].Running && in.Replicas[n].Ready {
			ready++
		}
	}
	r.Measured = ready
	average := s.Metric.TargetAverage > 0
	switch {
	case in.Count == 0:
		r.Ratio = value / s.Metric.Target()
		r.Wants = ceil(r.Ratio)
		return r
	case average:
		r.Ratio = value / (s.Metric.TargetAverage * float64(in.Count))
	default:
		r.Ratio = value / s.Metric.TargetTotal
	}
	switch {
	case value <= 0:
		r.Wants = 0
	case in.tolerated(r.Ratio):
	case average:
		r.Wants = ceil(value / s.Metric.TargetAverage)
	case ready == 0:
		r.Note = "no replica is ready yet"
	default:
		in.settle(&r, ceil(r.Ratio*float64(ready)))
	}
	return r
}

// settle takes a count, unless it goes the other way than the ratio: what was
// not counted would turn the decision round.
func (in *Input) settle(r *resources.ScaleReading, count int) {
	if r.Ratio < 1 && count > in.Count || r.Ratio > 1 && count < in.Count {
		return
	}
	r.Wants = count
}

// rounding keeps a ratio that is at the border from being beyond it.
const rounding = 1e-9

func (in *Input) tolerated(ratio float64) bool {
	return math.Abs(ratio-1) <= in.Autoscale.ToleratedRatio()+rounding
}

// crosses is true where what was assumed has turned the decision round.
func crosses(before, after float64) bool {
	return before < 1 && after > 1 || before > 1 && after < 1
}

// most bounds a count that can't be meant.
const most = 1_000_000

func ceil(x float64) int {
	return int(math.Min(math.Max(math.Ceil(x-rounding), 0), most))
}

func (in *Input) target(s Signal) string {
	switch {
	case s.Metric == nil && s.Name == resources.SampleMemory:
		return strconv.Itoa(in.Autoscale.Memory) + "%"
	case s.Metric == nil:
		return strconv.Itoa(in.Autoscale.CPU) + "%"
	case s.Metric.TargetTotal > 0:
		return number(s.Metric.TargetTotal) + " in all"
	}
	return number(s.Metric.TargetAverage) + " each"
}

// describe writes a value for people.
func (in *Input) describe(s Signal, value float64) string {
	if s.Metric != nil {
		return number(value)
	}
	reserved := float64(in.Reserved.CPU)
	if s.Name == resources.SampleMemory {
		reserved = float64(in.Reserved.Memory)
	}
	return strconv.FormatFloat(100*value/reserved, 'f', 0, 64) + "%"
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }
