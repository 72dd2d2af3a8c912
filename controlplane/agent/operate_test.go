package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

// fakeConsole writes a line with what it was asked for, and ends with the run.
type fakeConsole struct {
	Console
	end chan struct{}
}

func (c *fakeConsole) StreamLogs(_ context.Context, id string, o resources.LogOptions, w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s tail %d since %s\n", id, o.Tail, o.Since.Format(time.TimeOnly))
	if o.Follow {
		<-c.end
	}
	return err
}

// say makes the loop report this status.
func (l *loop) say(s ...resources.ReplicaStatus) {
	l.reported.Lock()
	defer l.reported.Unlock()
	l.report = s
	close(l.turned)
	l.turned = make(chan struct{})
}

// Who follows a log reads on when the container is started again, and until the
// replica is gone.
func TestALogIsFollowedAcrossRuns(t *testing.T) {
	a := newAgent(t, &fakePlane{})
	synctest.Test(t, func(t *testing.T) {
		console := &fakeConsole{end: make(chan struct{})}
		a.Console = console
		a.loop.turned, a.loop.looked = make(chan struct{}), make(chan struct{}) // of the bubble
		close(a.loop.looked)
		first := resources.ReplicaStatus{ID: "web-0-x", ContainerID: "c1", State: resources.ReplicaRunning, StartedAt: time.Now()}
		a.loop.say(first)
		w, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			a.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/replicas/web-0-x/logs", strings.NewReader(`{"follow":true,"tail":5}`)))
			close(done)
		}()
		advance(time.Minute)
		console.end <- struct{}{}
		advance(time.Second)
		waiting := first
		waiting.State, waiting.StartedAt = resources.ReplicaBackoff, time.Time{}
		a.loop.say(waiting)
		advance(time.Minute)
		second := first
		second.StartedAt = time.Now()
		a.loop.say(second)
		advance(time.Second)
		console.end <- struct{}{}
		a.loop.say(resources.ReplicaStatus{ID: "web-0-x", State: resources.ReplicaGone})
		<-done
		want := "c1 tail 5 since 00:00:00\nc1 tail -1 since 00:01:00\n"
		if diff := cmp.Diff(want, w.Body.String()); diff != "" {
			t.Errorf("the log (-want +got):\n%s", diff)
		}
	})
}
