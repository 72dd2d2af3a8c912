package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/resources"
)

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
