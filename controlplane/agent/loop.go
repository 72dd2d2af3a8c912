package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
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

// loop is the loop over the replicas of a node. Everything but its channels and
// the report belongs to the goroutine of run.
type loop struct {
	runtime  Runtime
	networks *networks // nil where the node can't be on any
	volumes  *volumes  // nil where the runtime has none
	contents *contents
	log      *slog.Logger
	measures *measures

	assigned chan resources.Assignment
	results  chan result
	listings chan listing
	exits    chan string
	findings chan finding

	began    time.Time
	units    map[resources.ReplicaID]*unit
	known    bool                             // assignments have been told
	orders   map[string]resources.SampleOrder // by service
	steps    int
	listed   listing
	listing  bool
	stale    bool
	watched  map[int]func() // the end of each watch, by process
	workers  sync.WaitGroup
	reported sync.Mutex // guards all below but the last three
	report   []resources.ReplicaStatus
	measured []measurable
	count    int           // of units
	turned   chan struct{} // closed and renewed with each turn
	needed   imageNeeds
	news     chan struct{} // holds a value when report has changed
	// looked is closed once the report tells what is on the node: nothing is known
	// of replicas that run since before the agent until then.
	looked chan struct{}
	look   sync.Once
	// ended is closed with the end of run.
	ended chan struct{}
	// littered holds a value when there may be something to clean up.
	littered chan struct{}
	// removing has room for one: who removes an image.
	removing chan struct{}
}

// listing is what the runtime had, asked when so many steps were done.
type listing struct {
	steps      int
	containers map[resources.ReplicaID]resources.Container
	err        error
}

// result is the end of a step.
type result struct {
	id  resources.ReplicaID
	do  verb
	run func(u *unit, now time.Time) // what the step changes
}

// Bounds of the runtime's calls.
const (
	listTimeout  = time.Minute
	stepTimeout  = 2 * time.Minute
	pullTimeout  = 15 * time.Minute
	lookAgain    = 30 * time.Second
	afterFailure = time.Second
	logLines     = 20
)

func newLoop(runtime Runtime, log *slog.Logger) *loop {
	return &loop{
		runtime: runtime, log: log, measures: newMeasures(), contents: newContents("", log),
		assigned: make(chan resources.Assignment, 1), results: make(chan result), listings: make(chan listing), exits: make(chan string),
		findings: make(chan finding),
		units:    map[resources.ReplicaID]*unit{}, watched: map[int]func(){}, news: make(chan struct{}, 1), looked: make(chan struct{}), ended: make(chan struct{}), turned: make(chan struct{}),
		needed: imageNeeds{used: map[string]time.Time{}, pulled: map[imageName]time.Time{}}, littered: make(chan struct{}, 1), removing: make(chan struct{}, 1),
	}
}

// assign tells what the node has to run, whole. The latest one counts.
func (l *loop) assign(said resources.Assignment) {
	for {
		select {
		case l.assigned <- said:
			return
		default:
			select {
			case <-l.assigned:
			default:
			}
		}
	}
}

// statuses returns the present report.
func (l *loop) statuses() []resources.ReplicaStatus {
	l.reported.Lock()
	defer l.reported.Unlock()
	return l.report
}

// status returns what was reported last of a replica.
func (l *loop) status(id resources.ReplicaID) (resources.ReplicaStatus, bool) {
	for _, s := range l.statuses() {
		if s.ID == id {
			return s, true
		}
	}
	return resources.ReplicaStatus{}, false
}

// nextRun waits until a replica runs again after the run that the status tells
// of, and returns its status then; false where it never will, or ctx has ended.
func (l *loop) nextRun(ctx context.Context, last resources.ReplicaStatus) (resources.ReplicaStatus, bool) {
	for {
		_, turned := l.left()
		s, found := l.status(last.ID)
		switch {
		case !found, s.State == resources.ReplicaGone, s.State == resources.ReplicaExited:
			return s, false
		case !s.StartedAt.IsZero() && !s.StartedAt.Equal(last.StartedAt):
			return s, true
		}
		select {
		case <-ctx.Done():
			return s, false
		case <-turned:
		}
	}
}

// left returns how many replicas there are or were not seen to be gone, and a
// channel that is closed when that may have changed.
func (l *loop) left() (int, <-chan struct{}) {
	l.reported.Lock()
	defer l.reported.Unlock()
	return l.count, l.turned
}

func (l *loop) run(ctx context.Context) error {
	defer close(l.ended)
	// Podman is not started for nothing.
	select {
	case <-ctx.Done():
		return nil
	case said := <-l.assigned:
		l.take(said, time.Now())
	}
	l.litter()
	died, err := l.runtime.Exits(ctx)
	if err != nil {
		return fmt.Errorf("watch Podman's events: %w", err)
	}
	defer l.workers.Wait()
	defer l.endWatches()
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.stale, l.began = true, time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case said := <-l.assigned:
			l.take(said, time.Now())
		case got := <-l.listings:
			l.see(ctx, got)
		case done := <-l.results:
			l.finish(done)
		case f := <-l.findings:
			l.learn(f)
		case <-l.exits:
			l.stale = true
		case _, open := <-died:
			if !open {
				return nil
			}
			l.stale = true
		case <-timer.C:
			l.stale = true
		}
		timer.Reset(l.turn(ctx))
	}
}

// take makes units of the assignments.
func (l *loop) take(said resources.Assignment, now time.Time) {
	l.known = true
	l.order(said.Samples)
	l.volumes.follow(said)
	l.contents.follow(said)
	assigned := map[resources.ReplicaID]bool{}
	for _, r := range said.Replicas {
		assigned[r.ID] = true
		u, found := l.units[r.ID]
		if !found {
			u = &unit{status: resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaPending}}
			l.units[r.ID] = u
		}
		u.become(r)
		u.confirmed = u.confirmed || !said.Remembered
		u.history = u.history.leaving(slices.Contains(said.Leaving, r.ID), now)
		u.orphan = false
	}
	for id, u := range l.units {
		if !assigned[id] {
			r := u.replica
			r.Wanted = false
			u.become(r)
			u.orphan = true
		}
	}
	l.needImages()
}

// become takes what is said of the replica. What failed while it was wanted does
// not put off its end.
func (u *unit) become(r resources.Replica) {
	if u.replica.Wanted && !r.Wanted {
		u.history.failures, u.history.retryAt = 0, time.Time{}
	}
	u.replica = r
}

// see takes a listing.
func (l *loop) see(ctx context.Context, got listing) {
	l.listing = false
	if got.err != nil {
		l.log.Error("Podman does not list its containers, and is asked again", "err", got.err)
		l.listed.containers = nil
		return
	}
	l.listed = got
	l.seeImages(time.Now())
	for id, c := range got.containers {
		if _, found := l.units[id]; !found && l.known {
			l.units[id] = &unit{replica: resources.Replica{ID: id}, orphan: true}
		}
		if c.Running && c.PID > 0 && l.watched[c.PID] == nil {
			l.watch(ctx, c)
		}
	}
}

// watch wakes the loop when the container's process ends.
func (l *loop) watch(ctx context.Context, c resources.Container) {
	ctx, cancel := context.WithCancel(ctx)
	l.watched[c.PID] = cancel
	l.workers.Go(func() {
		if awaitExit(ctx, c.PID) != nil {
			return
		}
		select {
		case l.exits <- c.ID:
		case <-ctx.Done():
		}
	})
}

func (l *loop) endWatches() {
	for _, end := range l.watched {
		end()
	}
}

// finish takes the end of a step.
func (l *loop) finish(done result) {
	l.steps++
	l.stale = true
	u, found := l.units[done.id]
	if !found {
		return
	}
	u.busy, u.since = false, l.steps
	l.after(u.replica, done.do, time.Now())
	if done.run != nil {
		done.run(u, time.Now())
	}
}

// turn begins what can be begun, and returns how long nothing is to do.
func (l *loop) turn(ctx context.Context) time.Duration {
	if l.stale && !l.listing {
		l.stale, l.listing = false, true
		l.list(ctx, l.steps)
	}
	now := time.Now()
	wake := now.Add(lookAgain)
	if l.listed.containers == nil {
		wake = now.Add(afterFailure)
	}
	alive := map[int]bool{}
	for _, id := range slices.Sorted(maps.Keys(l.units)) {
		u := l.units[id]
		if u.busy || l.listed.containers == nil || l.listed.steps < u.since {
			continue
		}
		var c *resources.Container
		if got, found := l.listed.containers[id]; found {
			c = &got
			alive[got.PID] = true
		}
		if at := l.advance(ctx, u, c, now); !at.IsZero() && at.Before(wake) {
			wake = at
		}
		if u.orphan && u.status.State == resources.ReplicaGone {
			delete(l.units, id)
		}
	}
	l.unwatch(alive)
	l.publish()
	if l.listed.containers != nil {
		l.look.Do(func() { close(l.looked) })
	}
	return max(time.Until(wake), 0)
}

// unwatch ends the watches of processes that no replica has any more.
func (l *loop) unwatch(alive map[int]bool) {
	for pid, end := range l.watched {
		if len(l.units) == 0 || !alive[pid] && !l.anyBusy() {
			end()
			delete(l.watched, pid)
		}
	}
}

// mayRun is true where a container of the replica runs, as far as is known, or is
// about to.
func (l *loop) mayRun(u *unit) bool {
	if u.busy || l.listed.containers == nil || l.listed.steps < u.since {
		return true
	}
	return l.listed.containers[u.replica.ID].Running
}

// hold stops the containers that use a volume, and keeps them from it until release
// is called.
func (l *loop) hold(ctx context.Context, volume, why string) (release func(), err error) {
	if err := l.volumes.hold(volume, why); err != nil {
		return nil, err
	}
	release = func() {
		l.volumes.hold(volume, "")            //nolint:errcheck // to let go never fails
		go l.poke(context.WithoutCancel(ctx)) //nolint:errcheck // it ends with the loop at the latest
	}
	for err := l.poke(ctx); ; {
		_, turned := l.left()
		switch {
		case err != nil:
			release()
			return nil, err
		case !l.volumes.used(volume):
			return release, nil
		}
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-turned:
		}
	}
}

// poke makes the loop look at all replicas. Once it returns, all that the loop had
// begun before is published.
func (l *loop) poke(ctx context.Context) error {
	select {
	case l.exits <- "":
		return nil
	case <-l.ended:
		return errors.New("the agent ends")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *loop) anyBusy() bool {
	for _, u := range l.units {
		if u.busy {
			return true
		}
	}
	return false
}

func (l *loop) list(ctx context.Context, steps int) {
	l.workers.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		all, err := l.runtime.List(bounded)
		got := listing{steps: steps, err: err, containers: map[resources.ReplicaID]resources.Container{}}
		for _, c := range all {
			got.containers[c.Replica] = c
		}
		select {
		case l.listings <- got:
		case <-ctx.Done():
		}
	})
}

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

// publish renews the report where something has changed.
func (l *loop) publish() {
	if l.networks != nil {
		l.networks.list(l.local())
	}
	l.volumes.use(l.units, l.mayRun)
	l.contents.use(l.units)
	report := []resources.ReplicaStatus{}
	for _, id := range slices.Sorted(maps.Keys(l.units)) {
		if u := l.units[id]; !u.orphan {
			report = append(report, u.status)
		}
	}
	measured := l.measurables()
	l.reported.Lock()
	defer l.reported.Unlock()
	l.count, l.measured = len(l.units), measured
	close(l.turned)
	l.turned = make(chan struct{})
	if reflect.DeepEqual(l.report, report) {
		return
	}
	l.report = report
	select {
	case l.news <- struct{}{}:
	default:
	}
}
