package autoscale

import (
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// History is what was asked for and changed before, as far as windows and
// periods reach. The zero History is that of a leader that has just begun: it
// takes the present count for what was asked for until now.
type History struct {
	requests []request
	changes  []change
}

// request is a count that was asked for.
type request struct {
	at    time.Time
	count int
}

// change is how many replicas were added, or removed where it is negative.
type change struct {
	at time.Time
	by int
}

// asked adds what is asked for now, and forgets what no window reaches.
func (h History) asked(count, present int, a *resources.Autoscale, now time.Time) History {
	up, down := a.UpPace(), a.DownPace()
	var next History
	if len(h.requests) == 0 {
		next.requests = append(next.requests, request{now, present})
	}
	window := max(up.Window, down.Window)
	for i, r := range h.requests {
		if !r.at.Before(now.Add(-window)) {
			next.requests = slices.Grow(next.requests, len(h.requests)-i+1)
			next.requests = append(next.requests, h.requests[i:]...)
			break
		}
	}
	next.requests = append(next.requests, request{now, count})
	period := max(up.Period, down.Period)
	for _, c := range h.changes {
		if c.at.After(now.Add(-period)) {
			next.changes = append(next.changes, c)
		}
	}
	return next
}

// window gives the lowest and the highest count that was asked for within each
// direction's window; the present request included.
func (h History) window(up, down time.Duration, now time.Time) (lowest, highest int) {
	latest := h.requests[len(h.requests)-1].count
	lowest, highest = latest, latest
	for _, r := range h.requests {
		if r.at.After(now.Add(-up)) {
			lowest = min(lowest, r.count)
		}
		if r.at.After(now.Add(-down)) {
			highest = max(highest, r.count)
		}
	}
	return lowest, highest
}

// moved sums what was added and removed within a period.
func (h History) moved(period time.Duration, now time.Time) (added, removed int) {
	for _, c := range h.changes {
		switch {
		case !c.at.After(now.Add(-period)):
		case c.by > 0:
			added += c.by
		default:
			removed -= c.by
		}
	}
	return added, removed
}

// pace takes what is asked for through windows, steps and bounds.
func (in *Input) pace(d *resources.ScaleDecision, h History, asked int, now time.Time) {
	a := in.Autoscale
	say := func(format string, args ...any) { d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...)) }
	switch {
	case in.Count > a.Max:
		d.To = a.Max
		say("max is %d", a.Max)
		return
	case in.Count < d.Floor:
		d.To = d.Floor
		say("%s is %d", in.floorName(d.Floor), d.Floor)
		return
	case in.Count == 0 && asked == 0:
		return
	}
	to := in.stabilise(h, asked, now, say)
	if to > in.Count {
		if limit := max(stepUp(h, a.UpPace(), in.Count, now), in.Count); to > limit {
			to = limit
			say("at most %d now: up.steps allow no more within %s", limit, a.UpPace().Period)
		}
	}
	if to < in.Count {
		if limit := min(stepDown(h, a.DownPace(), in.Count, now), in.Count); to < limit {
			to = limit
			say("at least %d now: down.steps allow no fewer within %s", limit, a.DownPace().Period)
		}
	}
	if to > a.Max {
		to = a.Max
		say("max is %d", a.Max)
	}
	if to < d.Floor {
		to = d.Floor
		say("%s is %d", in.floorName(d.Floor), d.Floor)
	}
	d.To = to
}

func (in *Input) floorName(floor int) string {
	if floor > in.Autoscale.Min {
		return "the fewest by the schedule at this time"
	}
	return "min"
}

// stabilise keeps the count where what was asked for within a window is on its
// other side.
func (in *Input) stabilise(h History, asked int, now time.Time, say func(string, ...any)) int {
	up, down := in.Autoscale.UpPace().Window, in.Autoscale.DownPace().Window
	lowest, highest := h.window(up, down, now)
	to := min(max(in.Count, lowest), max(in.Count, asked))
	if asked < in.Count {
		to = max(min(in.Count, highest), asked)
	}
	switch {
	case to < asked:
		say("%d for now: no more was asked for at some time of the last %s (up.window)", to, up)
	case to > asked:
		say("%d for now: so many were asked for, or there, within the last %s (down.window)", to, down)
	}
	return to
}

// stepUp is the highest count that the steps allow now.
func stepUp(h History, p resources.Pace, count int, now time.Time) int {
	added, removed := h.moved(p.Period, now)
	start := count - added + removed
	limit := 0
	for _, step := range p.Steps {
		by := step.Amount
		if step.Percent {
			by = (start*step.Amount + 99) / 100
		}
		limit = max(limit, start+by)
	}
	// From nothing the first one may always come.
	return max(limit, 1)
}

// stepDown is the lowest count that the steps allow now. As in Kubernetes, what a
// percentage removes is rounded up.
func stepDown(h History, p resources.Pace, count int, now time.Time) int {
	added, removed := h.moved(p.Period, now)
	start := count - added + removed
	limit := start
	for _, step := range p.Steps {
		by := step.Amount
		if step.Percent {
			by = (start*step.Amount + 99) / 100
		}
		limit = min(limit, start-by)
	}
	return limit
}
