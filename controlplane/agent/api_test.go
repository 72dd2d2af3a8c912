package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// fakePlane is a control plane that only counts.
type fakePlane struct {
	starts, stops int
	err           error
}

func (f *fakePlane) Start(context.Context, resources.ClusterConfig) error { f.starts++; return f.err }
func (f *fakePlane) Stop(context.Context) error                           { f.stops++; return nil }

func newAgent(t *testing.T, plane ControlPlane) *Agent {
	t.Helper()
	data := t.TempDir()
	if _, err := InitNode(data, resources.NodeFile{ID: "abc", Name: "one", AuthorizedKeys: []string{"ssh-ed25519 AAAA first"}}); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{
		Runtime: newFake(), ControlPlane: plane, Data: data, Log: slog.New(slog.DiscardHandler),
		AuthorizedKeys: filepath.Join(data, "ssh", "authorized_keys"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func call(t *testing.T, a *Agent, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return w
}

func TestSettingsChangeTheKeysThatMayLogIn(t *testing.T) {
	a := newAgent(t, &fakePlane{})
	if w := call(t, a, http.MethodPut, "/v1/node/settings", `{"labels":{"zone":"b"},"taints":["gpu:NoSchedule"],"authorized_keys":["ssh-ed25519 BBBB second"]}`); w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	keys, err := os.ReadFile(a.AuthorizedKeys)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(keys); !strings.Contains(text, "BBBB") || strings.Contains(text, "AAAA") {
		t.Errorf("the keys that may log in:\n%s", text)
	}
	// They outlive the process.
	again, err := New(a.Config)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := again.Info(); err != nil || info.Labels["zone"] != "b" || len(info.Taints) != 1 {
		t.Errorf("after a restart: %+v, %v", info, err)
	}
}

func TestANodeServesOneCluster(t *testing.T) {
	plane := &fakePlane{}
	a := newAgent(t, plane)
	for range 2 {
		if w := call(t, a, http.MethodPut, "/v1/cluster", `{"cluster":{"id":"c1","name":"home"}}`); w.Code != http.StatusNoContent {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	}
	if w := call(t, a, http.MethodPut, "/v1/cluster", `{"cluster":{"id":"c2","name":"other"}}`); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "home") {
		t.Errorf("another cluster: %d: %s", w.Code, w.Body)
	}
	if w := call(t, a, http.MethodDelete, "/v1/cluster?cluster=c2", ""); w.Code != http.StatusNoContent || plane.stops != 0 {
		t.Errorf("removing another cluster: %d, %d stops", w.Code, plane.stops)
	}
	for range 2 {
		if w := call(t, a, http.MethodDelete, "/v1/cluster?cluster=c1", ""); w.Code != http.StatusNoContent || plane.stops != 1 {
			t.Fatalf("%d, %d stops: %s", w.Code, plane.stops, w.Body)
		}
	}
	if _, found, err := Cluster(a.Data); found || err != nil {
		t.Errorf("the node belongs to a cluster still: %v, %v", found, err)
	}
}

// A control plane that does not start leaves the node free for another try.
func TestAControlPlaneThatDoesNotStart(t *testing.T) {
	plane := &fakePlane{err: errors.New("no room")}
	a := newAgent(t, plane)
	if w := call(t, a, http.MethodPut, "/v1/cluster", `{"cluster":{"id":"c1","name":"home"}}`); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "no room") {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	plane.err = nil
	if w := call(t, a, http.MethodPut, "/v1/cluster", `{"cluster":{"id":"c2","name":"home"}}`); w.Code != http.StatusNoContent {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

func TestTheRegistryIsForPullsOnly(t *testing.T) {
	var asked []string
	a := newAgent(t, &fakePlane{})
	a.ServerTransport = roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}}, nil
	})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v2/web/manifests/sha256:00", http.StatusOK},
		{http.MethodPut, "/v2/web/manifests/sha256:00", http.StatusMethodNotAllowed},
		{http.MethodGet, "/v1/services", http.StatusMethodNotAllowed},
		{http.MethodGet, "/v2/../v1/services", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		a.registryProxy().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.want)
		}
	}
	if len(asked) != 1 {
		t.Errorf("the server was asked %v", asked)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
