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
	until := ""
	if !o.Until.IsZero() {
		until = " until " + o.Until.Format(time.TimeOnly)
	}
	_, err := fmt.Fprintf(w, "%s tail %d since %s%s\n", id, o.Tail, o.Since.Format(time.TimeOnly), until)
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

// The log of the previous run is that between its beginning and the present one's;
// while none runs, that of the run that ended last.
func TestLogOfThePreviousRun(t *testing.T) {
	a := newAgent(t, &fakePlane{})
	a.Console = &fakeConsole{}
	close(a.loop.looked)
	at := func(hour int) time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		name    string
		status  resources.ReplicaStatus
		options string
		want    string
	}{
		{"it runs again", resources.ReplicaStatus{PreviousStartedAt: at(1), StartedAt: at(2)}, `"tail":-1`, "c1 tail -1 since 01:00:00 until 02:00:00\n"},
		{"it waits", resources.ReplicaStatus{PreviousStartedAt: at(1)}, `"tail":5`, "c1 tail 5 since 01:00:00\n"},
		{"the agent is new", resources.ReplicaStatus{StartedAt: at(2)}, `"tail":5`, "c1 tail 5 since 00:00:00 until 02:00:00\n"},
		{"since later", resources.ReplicaStatus{PreviousStartedAt: at(1), StartedAt: at(3)}, `"tail":5,"since":"2026-01-01T02:00:00Z"`, "c1 tail 5 since 02:00:00 until 03:00:00\n"},
		{"and follow", resources.ReplicaStatus{StartedAt: at(2)}, `"tail":5,"follow":true`, "give either follow or previous"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.status.ID, c.status.ContainerID = "web-0-x", "c1"
			a.loop.say(c.status)
			w := httptest.NewRecorder()
			a.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/replicas/web-0-x/logs", strings.NewReader(`{"previous":true,`+c.options+`}`)))
			if !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("the log is %q, not %q", w.Body, c.want)
			}
		})
	}
}
