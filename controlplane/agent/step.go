package agent

import (
	"time"

	"github.com/skerry-io/skerry/resources"
)

// verb is the one thing that is done next for a replica.
type verb int

const (
	wait   verb = iota // nothing now
	pull               // bring the image to the node
	create             // make the container
	start              // start it, for the first time or again
	judge              // look at how a run ended
	stop               // end it as its user wants it ended
	remove             // remove what is left of it
	gone               // nothing is left: say so
)

func (v verb) String() string {
	return [...]string{"wait", "pull", "create", "start", "judge", "stop", "remove", "gone"}[v]
}

// history is what the agent remembers of a replica between steps.
type history struct {
	pulled bool
	// judged is the end of the last run that was looked at.
	judged time.Time
	// failures in a row, and when the next attempt may begin.
	failures int
	retryAt  time.Time
	// over is true where the restart policy leaves it ended.
	over bool
	// run is the start of the present run as the runtime says, and seen when the
	// agent first saw it.
	run, seen time.Time
	// unhealthy says why the present run has to end; empty while it need not.
	unhealthy string
	// held is true while a volume of the replica is kept from it.
	held bool
	// leaveBy is when it stops at the latest, once it has to, while it may still
	// be sent connections; zero where it is not.
	leaveBy time.Time
}

const (
	// minReady is how long a container without a readiness probe has to run until
	// it counts as ready: a program that fails at its start mostly does so within.
	minReady = 3 * time.Second
	// maxBackoff is the longest wait between two attempts. A run that lasted
	// as long ends the series of failures.
	maxBackoff = time.Minute
)

// backoff is the wait before the next attempt: none after the first failure,
// then a second, doubled with each failure up to maxBackoff.
func backoff(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(time.Second<<min(failures-2, 10), maxBackoff)
}

// next decides the next step of a replica from what the runtime has of it. The
// time is when to look again; it is zero where only an event can change things.
func next(r resources.Replica, h history, c *resources.Container, now time.Time) (verb, time.Time) {
	if !r.Wanted {
		return end(h, c, now)
	}
	if h.held {
		if c != nil && c.Running {
			return stop, time.Time{} // and then it is started again
		}
		return wait, time.Time{}
	}
	if c != nil && c.Damaged && !now.Before(h.retryAt) {
		return remove, time.Time{} // and then it is made anew
	}
	if h.over {
		return wait, time.Time{}
	}
	if c != nil && c.Damaged {
		return wait, h.retryAt
	}
	if c != nil && c.Running {
		ready := h.began(*c).Add(minReady)
		switch {
		case h.unhealthy != "":
			return stop, time.Time{} // and then it is started again
		case !asksReadiness(r) && now.Before(ready):
			return wait, ready
		default:
			return wait, time.Time{}
		}
	}
	if c != nil && !c.Created && !c.FinishedAt.Equal(h.judged) {
		return judge, time.Time{}
	}
	if now.Before(h.retryAt) {
		return wait, h.retryAt
	}
	switch {
	case c != nil:
		return start, time.Time{}
	case !h.pulled:
		return pull, time.Time{}
	default:
		return create, time.Time{}
	}
}

// end is next for a replica that nobody wants any more.
func end(h history, c *resources.Container, now time.Time) (verb, time.Time) {
	switch {
	case c == nil:
		return gone, time.Time{}
	case now.Before(h.retryAt):
		return wait, h.retryAt
	case c.Running && now.Before(h.leaveBy):
		return wait, h.leaveBy
	case c.Running:
		return stop, time.Time{}
	default:
		return remove, time.Time{}
	}
}

// asksReadiness is true where a replica says itself that it is ready.
func asksReadiness(r resources.Replica) bool {
	return r.Template.Health != nil && r.Template.Health.Readiness != nil
}

// leaving notes whether nodes may still send connections to the replica, which
// has to stop.
func (h history) leaving(is bool, now time.Time) history {
	switch {
	case !is:
		h.leaveBy = time.Time{}
	case h.leaveBy.IsZero():
		h.leaveBy = now.Add(leavePatience)
	}
	return h
}

// hold notes whether a volume of the replica is kept from it. A run that ends
// meanwhile is no failure.
func (h history) hold(is bool, c *resources.Container) history {
	h.held = is
	if is && c != nil && !c.Running && !c.Created {
		h.judged = c.FinishedAt
	}
	return h
}

// saw notes a run that the agent sees for the first time.
func (h history) saw(c *resources.Container, now time.Time) history {
	if c != nil && c.Running && !c.StartedAt.Equal(h.run) {
		h.run, h.seen = c.StartedAt, now
	}
	return h
}

// began is when the present run did. A clock that was set back since doesn't put
// it off: the agent's own count holds then.
func (h history) began(c resources.Container) time.Time { return minTime(c.StartedAt, h.seen) }

// lasted is how long a run took, at least: a clock that was set back in it tells
// nothing.
func lasted(c resources.Container) time.Duration {
	return max(c.FinishedAt.Sub(c.StartedAt), 0)
}

// failed adds a failure.
func (h history) failed(now time.Time) history {
	h.failures++
	h.retryAt = now.Add(backoff(h.failures))
	return h
}

// ended adds the end of a run.
func (h history) ended(r resources.Replica, c resources.Container, now time.Time) history {
	h.judged = c.FinishedAt
	restart := r.Template.Restart
	well := c.ExitCode == 0 && !c.OOMKilled && h.unhealthy == ""
	h.over = restart == resources.RestartNever || restart == resources.RestartOnFailure && well
	h.unhealthy = ""
	if lasted(c) >= maxBackoff {
		h.failures = 0
	}
	return h.failed(now)
}

// observe gives the state of a replica that no step is busy with. verb is what
// next decided; started is whether the program of a running container has.
func observe(h history, c *resources.Container, v verb, started bool) resources.ReplicaState {
	switch {
	case v == gone:
		return resources.ReplicaGone
	case c != nil && c.Damaged:
		return resources.ReplicaStarting
	case v == stop || v == remove:
		return resources.ReplicaStopping
	case h.over:
		return resources.ReplicaExited
	case c != nil && c.Running && !started:
		return resources.ReplicaStarting
	case c != nil && c.Running:
		return resources.ReplicaRunning
	case h.failures > 0:
		return resources.ReplicaBackoff
	case v == pull:
		return resources.ReplicaPulling
	default:
		return resources.ReplicaStarting
	}
}
