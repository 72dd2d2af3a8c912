package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// remember adds what the record has to hold from now on, and when to look
// again.
func (s *survey) remember(d Decision) Decision {
	if !s.rolling {
		return d
	}
	do, next := s.next()
	if !s.resting() && !s.complete() {
		d.Wake = s.wake()
	}
	if do == RollBack {
		// Nothing else is done for a revision that is given up.
		d.Actions = slices.DeleteFunc(d.Actions, func(a Action) bool { return a.Do != Forget })
	}
	if do.Writes() {
		d.Actions = append(d.Actions, Action{Do: do, Record: next})
	}
	return d
}

// next gives the record from now on. The verb is one that writes only where
// there is something to write.
func (s *survey) next() (do Verb, next resources.ServiceRecord) {
	next = s.service
	now, rollout := s.view.Now.UTC(), s.service.Rollout
	ended := resources.Rollout{RolledBack: rollout.RolledBack, Reason: rollout.Reason}
	switch why := s.stuck(); {
	case s.resting() && !rollout.Began.IsZero():
		next.Rollout = ended
		return Note, next
	case s.resting():
		return do, next
	case s.complete():
		stable := s.present
		next.Stable, next.Rollout = &stable, ended
		return Complete, next
	case why != "" && s.goesBack():
		next.Service.Template, next.ImageDigest = s.service.Stable.Template, s.service.Stable.ImageDigest
		next.Contents = s.service.Stable.Contents
		next.Revision++
		next.Rollout = resources.Rollout{Began: now, Progress: now, RolledBack: s.service.Revision, Reason: why}
		return RollBack, next
	case why != "" && rollout.Paused == "":
		next.Rollout.Paused = why
		return Pause, next
	case why == "" && (rollout.Began.IsZero() || rollout.Paused != "" || s.progressed):
		if rollout.Began.IsZero() {
			next.Rollout.Began = now
		}
		next.Rollout.Progress, next.Rollout.Paused = now, ""
		// What is silent for a while doesn't come forward by being heard again.
		next.Rollout.Done = max(s.done, min(rollout.Done, s.size))
		return Note, next
	}
	return do, next
}

// goesBack is true where a failure rolls the service back. A rollback that
// fails has nowhere to go, since it runs what it would go back to; it pauses.
func (s *survey) goesBack() bool {
	return s.update.OnFailure == resources.OnFailureRollback &&
		s.service.Stable != nil && !sameRun(*s.service.Stable, s.present)
}

// wake is when time alone changes something: a replica has been ready for long
// enough, or the rollout has come no further for too long.
func (s *survey) wake() time.Time {
	var next time.Time
	soonest := func(at time.Time) {
		if at.After(s.view.Now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, r := range s.replicas {
		if r.current && r.state == up && !r.proven {
			soonest(s.view.Seen[r.ID].ReadySince.Add(time.Duration(s.update.MinReady)))
		}
	}
	soonest(s.deadline())
	return next
}

// deadline is when the rollout counts as failed unless it comes forward. What
// is stopping has its grace on top.
func (s *survey) deadline() time.Time {
	from := s.service.Rollout.Progress
	if from.Before(s.view.Since) {
		from = s.view.Since
	}
	if s.progressed || s.service.Rollout.Began.IsZero() || from.After(s.view.Now) {
		from = s.view.Now
	}
	var grace resources.Duration
	for _, r := range s.replicas {
		if r.state == stopping {
			grace = max(grace, r.Template.StopGrace)
		}
	}
	return from.Add(time.Duration(s.update.ProgressDeadline + grace))
}

// stuck says why a rollout does not come forward, or nothing. What fails holds
// it, until that runs. Being late doesn't: what is late goes on when it can.
func (s *survey) stuck() string {
	switch {
	case s.failing():
		return s.failure
	case s.rolling && !s.resting() && !s.view.Now.Before(s.deadline()):
		return fmt.Sprintf("the rollout has come no further for %s (update.progress_deadline): %s", s.update.ProgressDeadline, s.waitsFor())
	}
	return ""
}

// failing is true while the revision can't run.
func (s *survey) failing() bool { return s.rolling && s.failure != "" }
