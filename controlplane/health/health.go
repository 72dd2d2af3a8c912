// Package health keeps count of the probes of one run of a container: which is
// due when, and what their answers come to. It is pure; whoever asks has the
// clock.
//
// Until startup has succeeded, the others wait. Readiness says no at first,
// liveness yes, and both change their mind after as many answers in a row as
// their thresholds say, as in Kubernetes.
package health

import (
	"fmt"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Kind is one of a container's probes.
type Kind int

// The kinds of probes.
const (
	Startup Kind = iota
	Readiness
	Liveness
	kinds
)

func (k Kind) String() string { return [...]string{"startup", "readiness", "liveness"}[k] }

// State is what the probes of one run have come to.
type State struct {
	counts [kinds]count
}

// count is what one probe has come to. A probe that there is not says yes, and
// is never due.
type count struct {
	probe *resources.Probe
	says  bool
	// row is how many answers in a row were against what it says.
	row int
	// last is why the last probe failed; empty where it succeeded.
	last string
	// next is when the next one is due.
	next time.Time
}

// Begin is the state of a run that began at a time. One that was there before
// whoever asks is taken to have started, and to be ready, until it says
// otherwise.
func Begin(h resources.Health, started time.Time, there bool) State {
	var s State
	for kind, probe := range map[Kind]*resources.Probe{Startup: h.Startup, Readiness: h.Readiness, Liveness: h.Liveness} {
		c := count{probe: probe, says: probe == nil || kind == Liveness || there}
		if probe != nil {
			c.next = started.Add(time.Duration(probe.InitialDelay))
		}
		s.counts[kind] = c
	}
	return s
}

// Probe gives what a kind asks.
func (s State) Probe(k Kind) *resources.Probe { return s.counts[k].probe }

// Started is true once the program has started.
func (s State) Started() bool { return s.counts[Startup].says }

// Ready is true while the replica does its work.
func (s State) Ready() bool { return s.Started() && s.counts[Readiness].says }

// Waiting says why the replica is not ready, where a probe has said so.
func (s State) Waiting() string {
	for _, k := range []Kind{Startup, Readiness} {
		if c := s.counts[k]; !c.says && c.last != "" {
			return fmt.Sprintf("%s probe: %s", k, c.last)
		}
	}
	return ""
}

// Unhealthy says why the run has to end; empty while it need not.
func (s State) Unhealthy() string {
	for _, k := range []Kind{Startup, Liveness} {
		c := s.counts[k]
		if c.probe != nil && c.last != "" && !c.says && c.row >= c.probe.FailureThreshold {
			return fmt.Sprintf("its %s probe failed %d in a row: %s", k, c.row, c.last)
		}
	}
	return ""
}

// Due tells when a probe is due next, and whether it ever is: not before the
// program has started, and not once startup has succeeded or the run has to end.
func (s State) Due(k Kind) (at time.Time, ever bool) {
	c := s.counts[k]
	if c.probe == nil || s.Unhealthy() != "" || (k == Startup) == s.Started() {
		return time.Time{}, false
	}
	return c.next, true
}

// Heard adds the answer of a probe that began and ended at these times: why it
// failed, or nothing where it succeeded.
func (s State) Heard(k Kind, began, ended time.Time, failure string) State {
	c := &s.counts[k]
	c.last = failure
	c.next = began.Add(time.Duration(c.probe.Interval))
	switch {
	case k == Startup || k == Liveness:
		s.judge(k, failure)
	case (failure == "") == c.says:
		c.row = 0
	default:
		c.row++
		if c.says && c.row >= c.probe.FailureThreshold || !c.says && c.row >= c.probe.SuccessThreshold {
			c.says, c.row = !c.says, 0
		}
	}
	if k == Startup && c.says {
		for _, other := range []Kind{Readiness, Liveness} {
			if o := &s.counts[other]; o.probe != nil {
				o.next = ended.Add(time.Duration(o.probe.InitialDelay))
			}
		}
	}
	return s
}

// judge counts for the two that end a run: a success is enough for yes, and
// nothing but the threshold for no.
func (s *State) judge(k Kind, failure string) {
	c := &s.counts[k]
	if failure == "" {
		c.says, c.row = true, 0
		return
	}
	c.row++
	if c.row >= c.probe.FailureThreshold {
		c.says = false
	}
}
