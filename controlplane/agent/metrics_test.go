package agent

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/controlplane/metrics/metricstest"
	"github.com/skerry-io/skerry/resources"
)

func scraped(t *testing.T, l *loop) string {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Handler(l.measures.registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func measured(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no line %s in:\n%s", line, text)
		}
	}
}

func TestThePageListsAllMetrics(t *testing.T) {
	a := &Agent{loop: newLoop(newFake(), slog.New(slog.DiscardHandler))}
	a.loop.measures.registry.MustRegister(a.states())
	metricstest.CheckPage(t, a.loop.measures.registry, "Agent")
}

func TestWhatAnAgentMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := run(t, f, replica(resources.RestartAlways))
		a := &Agent{loop: l, conditions: map[resources.NodeConditionType]resources.NodeCondition{resources.ClockSkew: {}}}
		l.measures.registry.MustRegister(a.states())
		f.end("web-0-x", 1)
		advance(time.Millisecond)
		f.startErr = errors.New("no")
		f.end("web-0-x", 1)
		advance(2 * time.Second)
		measured(t, scraped(t, l),
			`skerry_agent_replicas{state="backoff"} 1`,
			`skerry_agent_replicas{state="running"} 0`,
			`skerry_agent_condition{condition="ClockSkew"} 1`,
			`skerry_agent_condition{condition="DiskPressure"} 0`,
			`skerry_agent_step_seconds_count{result="done",step="pull"} 1`,
			`skerry_agent_step_seconds_count{result="done",step="start"} 2`,
			`skerry_agent_step_seconds_count{result="failed",step="start"} 1`,
			`skerry_agent_restarts_total 1`,
			`skerry_agent_images_collected_total 0`)
	})
}
