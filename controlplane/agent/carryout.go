package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// advance takes the next step of a replica, and returns when to look again.
func (l *loop) advance(ctx context.Context, u *unit, c *resources.Container, now time.Time) time.Time {
	hindrance := l.volumes.hindrance(u.replica)
	u.history = u.history.saw(c, now).hold(hindrance != "", c)
	l.examine(ctx, u, c)
	do, at := next(u.replica, u.history, c, now)
	if (do == create || do == start) && !u.confirmed && l.volumes.shared(u.replica) != "" {
		do = wait
	}
	l.describe(u, c, do, now)
	if do == wait && u.replica.Wanted && !u.confirmed && (c == nil || !c.Running) {
		u.unconfirmed(l.volumes.shared(u.replica))
	}
	if hindrance != "" && u.replica.Wanted {
		u.status.Reason, u.status.Message = resources.ReasonNotReady, hindrance
	}
	if do == wait || do == gone {
		return at
	}
	u.busy = true
	r := u.replica
	l.workers.Go(func() {
		began := time.Now()
		run, err := l.carryOut(ctx, r, c, do)
		l.measures.carriedOut(do, time.Since(began), err)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("a step was not carried out", "replica", r.ID, "step", do.String(), "err", err)
			run = func(u *unit, now time.Time) { u.fail(err, now) }
		}
		select {
		case l.results <- result{r.ID, do, run}:
		case <-ctx.Done():
		}
	})
	return at
}

func (l *loop) describe(u *unit, c *resources.Container, do verb, now time.Time) {
	s := &u.status
	is := u.condition(c, now)
	s.ID, s.State, s.Failures = u.replica.ID, observe(u.history, c, do, is.started), u.history.failures
	if !u.replica.Wanted && s.State != resources.ReplicaGone {
		s.State = resources.ReplicaStopping
	}
	s.ContainerID, s.Address, s.StartedAt, s.NotReady = "", "", time.Time{}, false
	if c != nil {
		s.ContainerID = c.ID
	}
	if c != nil && c.Running {
		s.Address, s.StartedAt = c.Address, c.StartedAt.UTC()
	}
	if s.State != resources.ReplicaRunning {
		return
	}
	s.NotReady = !is.ready
	switch {
	case is.ready:
		s.Reason, s.Message, s.LogTail, s.ExitCode = "", "", nil, nil
	case is.waiting != "":
		s.Reason, s.Message, s.LogTail, s.ExitCode = resources.ReasonNotReady, is.waiting, nil, nil
	}
}

// carryOut does one step, and returns what it changes.
func (l *loop) carryOut(ctx context.Context, r resources.Replica, c *resources.Container, do verb) (func(*unit, time.Time), error) {
	bound := stepTimeout
	if do == pull {
		bound = pullTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, bound+time.Duration(r.Template.StopGrace))
	defer cancel()
	switch do {
	case pull:
		// What is being removed is not taken for present. What is removed after
		// that is not what take has said is needed.
		select {
		case l.removing <- struct{}{}:
			<-l.removing
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		logins, err := l.contents.logins(r)
		if err == nil {
			err = l.runtime.Pull(ctx, r.Template.Image, r.ImageDigest, r.Template.PullPolicy, logins...)
		}
		return func(u *unit, _ time.Time) { u.history.pulled = true }, err
	case create:
		err := l.prepare(ctx, r)
		if err == nil {
			r, err = l.contents.given(r)
		}
		if err == nil {
			_, err = l.runtime.Create(ctx, r)
		}
		if err != nil {
			return nil, &createError{err}
		}
		return nil, nil
	case start:
		err := l.prepare(ctx, r)
		if err == nil {
			_, err = l.runtime.Start(ctx, c.ID)
		}
		again := !c.Created
		return func(u *unit, _ time.Time) {
			if again {
				u.status.Restarts++
				l.measures.restarts.Inc()
			}
		}, err
	case judge:
		return l.judge(ctx, r, *c), nil
	case stop:
		return nil, l.runtime.Stop(ctx, c.ID)
	case remove:
		if c.Damaged {
			l.log.Warn("a container was damaged by a power loss, and is made anew", "replica", r.ID, "container", c.ID)
		}
		return nil, l.runtime.Remove(ctx, c.ID)
	case wait, gone:
	}
	return nil, nil
}

// prepare returns once all is there that the container of a replica needs.
func (l *loop) prepare(ctx context.Context, r resources.Replica) error {
	if err := l.networks.await(ctx, r); err != nil {
		return err
	}
	if err := l.contents.prepare(r); err != nil {
		return err
	}
	return l.volumes.prepare(ctx, r)
}

// judge looks at how a run ended, and keeps what a person needs to know.
func (l *loop) judge(ctx context.Context, r resources.Replica, c resources.Container) func(*unit, time.Time) {
	tail, err := l.runtime.Logs(ctx, c.ID, logLines)
	if err != nil {
		tail = []string{"(the log can't be read: " + err.Error() + ")"}
	}
	return func(u *unit, now time.Time) {
		unhealthy := u.history.unhealthy
		u.history = u.history.ended(r, c, now)
		s := &u.status
		s.ExitCode, s.LogTail, s.PreviousStartedAt = &c.ExitCode, tail, c.StartedAt.UTC()
		s.Reason, s.Message = resources.ReasonCrashed, fmt.Sprintf("the container ended after %s", lasted(c).Round(time.Millisecond))
		switch {
		case c.OOMKilled:
			s.Reason, s.Message = resources.ReasonOutOfMemory, fmt.Sprintf("the container wanted more than its %s of memory; raise resources.memory", r.Template.Resources.Memory)
		case unhealthy != "":
			s.Reason, s.Message = resources.ReasonUnhealthy, unhealthy
		case c.ExitCode == 0 && u.history.over:
			s.Reason, s.LogTail = "", nil
		}
		l.log.Info("a container ended", "replica", r.ID, "exit_code", c.ExitCode, "failures", u.history.failures)
	}
}
