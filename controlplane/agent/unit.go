package agent

import (
	"errors"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// unit is a replica on its way.
type unit struct {
	replica resources.Replica
	history history
	status  resources.ReplicaStatus
	busy    bool
	// checkup asks the running container how it is, where its service says how.
	checkup *checkup
	// since is the count of steps when its last one ended: a listing that was
	// begun before tells nothing of it.
	since int
	// orphan is true where the container is on the node and not assigned.
	orphan bool
	// confirmed is true once a server has said, since the agent began, that the
	// replica is this node's.
	confirmed bool
}

// become takes what is said of the replica. What failed while it was wanted does
// not put off its end.
func (u *unit) become(r resources.Replica) {
	if u.replica.Wanted && !r.Wanted {
		u.history.failures, u.history.retryAt = 0, time.Time{}
	}
	u.replica = r
}

// condition is how a running container is.
type condition struct {
	started, ready bool
	// waiting says why it is not ready, where its probes have.
	waiting string
}

func (u *unit) condition(c *resources.Container, now time.Time) condition {
	switch {
	case c == nil || !c.Running:
		return condition{}
	case u.checkup == nil:
		return condition{started: true, ready: !now.Before(u.history.began(*c).Add(minReady))}
	}
	state := u.checkup.state
	is := condition{started: state.Started(), ready: state.Ready(), waiting: state.Waiting()}
	if !asksReadiness(u.replica) {
		is.ready = is.ready && !now.Before(u.history.began(*c).Add(minReady))
	}
	return is
}

// createError is the error of a create.
type createError struct{ error }

func (e *createError) Unwrap() error { return e.error }

// fail takes a step that was not carried out.
func (u *unit) fail(err error, now time.Time) {
	reason := resources.ReasonCreateFailed
	if known := new(resources.Failure); errors.As(err, &known) {
		reason = known.Reason
	}
	if failed := new(createError); errors.As(err, &failed) {
		// The image may have been removed since it was pulled.
		u.history.pulled = false
	}
	u.history = u.history.failed(now)
	u.status.Reason, u.status.Message = reason, err.Error()
	u.status.LogTail, u.status.ExitCode = nil, nil
}
