// Package autoscale decides how many replicas a service has. It is pure: what
// was measured, what was decided before and the time in; the count and its
// explanation out.
//
// The algorithm is that of Kubernetes' HorizontalPodAutoscaler
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details):
// each target asks for the present count times the ratio of use and target,
// rounded up; the largest count is taken. Replicas that are not ready yet or
// tell nothing are assumed to be what moves the count least (reading.go). What
// is decided then passes the windows, which remember what was asked for, and the
// steps, which bound how fast the count moves (pace.go).
package autoscale

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Signal is one thing that a service is scaled by.
type Signal struct {
	// Name of what is measured, as samples have it: resources.SampleCPU,
	// resources.SampleMemory, or Metric.String.
	Name string
	// Metric is nil for processor time and memory.
	Metric *resources.Metric
}

// outside is true where the value does not come from the replicas.
func (s Signal) outside() bool { return s.Metric != nil && s.Metric.URL != "" }

// Signals lists what a service is scaled by. The values of a Replica and of an
// Input stand in this order.
func Signals(a *resources.Autoscale) []Signal {
	var all []Signal
	if a.CPU > 0 {
		all = append(all, Signal{Name: resources.SampleCPU})
	}
	if a.Memory > 0 {
		all = append(all, Signal{Name: resources.SampleMemory})
	}
	for i := range a.Metrics {
		all = append(all, Signal{a.Metrics[i].String(), &a.Metrics[i]})
	}
	return all
}

// Replica is a replica that is wanted, with what is known of it.
type Replica struct {
	// Running and Ready are as its node has said.
	Running, Ready bool
	// Started is when it began to run, and ReadySince when it became ready.
	Started, ReadySince time.Time
	// Since is the begin of the time that its values are of.
	Since time.Time
	// Values by signal; NaN for one that was not measured.
	Values []float64
}

// Input is what is known of a service.
type Input struct {
	Autoscale *resources.Autoscale
	// Reserved is what each replica is promised.
	Reserved resources.Reservation
	// Count is how many replicas there are to be now.
	Count    int
	Replicas []Replica
	// Outside holds the values of the signals that don't come from the replicas;
	// NaN for one that could not be read, and for all others.
	Outside []float64
	// Problems say why a signal was not measured; they may be empty.
	Problems []string
	History  History
}

// Plan decides how many replicas the service has from now on. The history is
// what the next decision needs to know; whoever carries the decision out adds
// the change to it, by Moved.
func Plan(in Input, now time.Time) (resources.ScaleDecision, History) {
	d := resources.ScaleDecision{Time: now.UTC(), From: in.Count, Readings: []resources.ScaleReading{}, Reasons: []string{}}
	for i, signal := range Signals(in.Autoscale) {
		d.Readings = append(d.Readings, in.read(i, signal, now))
	}
	in.floor(&d, now)
	asked := in.combine(&d)
	d.Wants = asked
	history := in.History.asked(asked, in.Count, in.Autoscale, now)
	in.pace(&d, history, asked, now)
	return d, history
}

// combine gives the count that all readings together ask for.
func (in *Input) combine(d *resources.ScaleDecision) int {
	if len(d.Readings) == 0 {
		return d.Floor
	}
	wants, broken := 0, []string{}
	for _, r := range d.Readings {
		if r.Problem != "" {
			broken = append(broken, r.Name)
			continue
		}
		wants = max(wants, r.Wants)
	}
	if in.idle(d.Readings) {
		d.Reasons = append(d.Reasons, "nothing outside asks for a replica")
		return 0
	}
	if len(broken) > 0 && wants < in.Count {
		d.Reasons = append(d.Reasons, fmt.Sprintf("keeps %d: no replica is removed while %s can't be measured", in.Count, strings.Join(broken, ", ")))
		return in.Count
	}
	return wants
}

// idle is true where the service may have no replica, and everything that tells
// of a demand from outside says that there is none: what the replicas use while
// they have nothing to do keeps none of them.
func (in *Input) idle(readings []resources.ScaleReading) bool {
	if in.Autoscale.Min > 0 {
		return false
	}
	none := false
	for i, signal := range Signals(in.Autoscale) {
		if !signal.outside() {
			continue
		}
		if readings[i].Problem != "" || readings[i].Wants > 0 {
			return false
		}
		none = true
	}
	return none
}

// floor finds the fewest replicas at this time.
func (in *Input) floor(d *resources.ScaleDecision, now time.Time) {
	d.Floor = in.Autoscale.Min
	for _, s := range in.Autoscale.Schedules {
		if s.Min > d.Floor && s.Active(now) {
			d.Floor = min(s.Min, in.Autoscale.Max)
		}
	}
}

// Moved tells the history that the count was changed.
func (h History) Moved(from, to int, now time.Time) History {
	if from == to {
		return h
	}
	h.changes = append(slices.Clip(h.changes), change{now, to - from})
	return h
}
