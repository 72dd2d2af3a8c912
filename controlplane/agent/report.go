package agent

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

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
