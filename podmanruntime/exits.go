package podmanruntime

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/system"
	"github.com/containers/podman/v4/pkg/domain/entities"
)

// The pause before the event stream is opened again doubles from the first to
// the last of these: a Podman that restarts is back in well under a second,
// and one that stays away is not worth more than a look every few.
const (
	firstReconnect = 100 * time.Millisecond
	lastReconnect  = 5 * time.Second
)

// Exits tells the IDs of skerry's containers as they end, until ctx does; then
// the channel is closed. It outlives restarts of Podman: what ended meanwhile
// is told once Podman is back. An ID may be told twice, or late: it is a
// reason to look with List, not a fact about the present run.
//
// The error is that of a Podman that does not answer at all.
func (r *Runtime) Exits(ctx context.Context) (<-chan string, error) {
	// From now on, even if the stream opens later.
	since := time.Now()
	if _, err := r.Version(ctx); err != nil {
		return nil, err
	}
	ctx, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	exits := make(chan string)
	go func() {
		defer close(exits)
		pause := firstReconnect
		for ctx.Err() == nil {
			opened := time.Now()
			last, err := follow(ctx, since, exits)
			if ctx.Err() != nil {
				return
			}
			if !last.IsZero() {
				since = last
			}
			if time.Since(opened) > lastReconnect {
				pause = firstReconnect
			}
			slog.WarnContext(ctx, "Podman's event stream ended; opening it again", "error", err, "after", pause)
			if !wait(ctx, pause) {
				return
			}
			pause = min(2*pause, lastReconnect)
		}
	}()
	return exits, nil
}

// follow sends the exits that the event stream tells from since on, until the
// stream ends or ctx does. It gives the time of the last one.
func follow(ctx context.Context, since time.Time, exits chan<- string) (last time.Time, err error) {
	options := new(system.EventsOptions).WithStream(true).
		WithSince(strconv.FormatInt(since.Unix(), 10)).
		WithFilters(map[string][]string{"type": {"container"}, "event": {"died"}})
	events, done := make(chan entities.Event), make(chan error, 1)
	go func() { done <- system.Events(ctx, events, nil, options) }()
	for {
		select {
		case event, open := <-events:
			if !open {
				return last, <-done
			}
			last = time.Unix(event.Time, 0)
			// Podman 4.3 knows no filter by a label whatever its value.
			if event.Actor.Attributes[LabelReplica] == "" {
				continue
			}
			select {
			case exits <- event.Actor.ID:
			case <-ctx.Done():
				// The sender ends with ctx, at the latest when its present
				// event is taken.
				for range events {
				}
				return last, <-done
			}
		case err := <-done:
			return last, err // it never opened
		}
	}
}

// wait tells whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
