package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/controlplane/metrics/metricstest"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func (c *cluster) scrape(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	c.server.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestThePageListsAllMetrics(t *testing.T) {
	metricstest.CheckPage(t, New(Config{Store: &store.Memory{}}).measures.registry, "Server")
}

func TestWhatAServerMeasures(t *testing.T) {
	c := start(t, &store.Memory{})
	c.join(t, "n1", runs)
	c.put(t, web(2))
	c.until(t, "web", func(s resources.ServiceStatus) bool { return s.State == resources.ServiceRunning })
	// It asks for more than the node has.
	large := web(1)
	large.Name, large.Resources.CPU = "large", 8000
	c.put(t, large)
	c.until(t, "large", func(s resources.ServiceStatus) bool { return s.Message != "" })
	if _, err := c.Service(t.Context(), "none"); err == nil {
		t.Fatal("there is a service none")
	}
	text := c.scrape(t)
	for _, line := range []string{
		`skerry_server_is_leader 1`,
		`skerry_nodes{state="ready"} 1`,
		`skerry_nodes{state="silent"} 0`,
		`skerry_node_conditions{condition="DiskPressure"} 0`,
		`skerry_services{state="running"} 1`,
		`skerry_replicas{state="wanted"} 3`,
		`skerry_replicas{state="ready"} 2`,
		`skerry_replicas{state="pending"} 1`,
		`skerry_server_placements_total 2`,
		`skerry_server_placements_refused_total 1`,
		`skerry_server_requests_total{code="200",route="PUT /v1/services/{name}"} 2`,
		`skerry_server_requests_total{code="404",route="GET /v1/services/{name}"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	for _, name := range []string{"skerry_server_decision_seconds_count ", `skerry_server_commits_total{by="leader",result="done"} `, "go_goroutines "} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("there is no %s", name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestAServerThatDoesNotLeadSaysSo(t *testing.T) {
	s := New(Config{Store: &store.Memory{}})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	if !strings.Contains(text, "\nskerry_server_is_leader 0\n") || strings.Contains(text, "skerry_nodes{") {
		t.Error(text)
	}
}
