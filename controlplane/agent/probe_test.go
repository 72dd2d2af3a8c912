package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// asks is a probe by a command that fails twice in a row before it counts.
func asks(command string) *resources.Probe {
	return &resources.Probe{
		Exec: &resources.ExecProbe{Command: []string{command}}, Interval: resources.Duration(10 * time.Second),
		Timeout: resources.Duration(time.Second), SuccessThreshold: 1, FailureThreshold: 2,
	}
}

func healthy(h resources.Health) resources.Replica {
	r := replica(resources.RestartOnFailure)
	r.Template.Health = &h
	return r
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.answer("ready", 1)
		l := run(t, f, healthy(resources.Health{Readiness: asks("ready")}))
		look := func(notReady bool, reason resources.Reason, message string) {
			t.Helper()
			s := l.statuses()[0]
			if s.State != resources.ReplicaRunning || s.NotReady != notReady || s.Reason != reason || s.Message != message {
				t.Errorf("%+v", s)
			}
		}
		advance(time.Millisecond)
		look(true, resources.ReasonNotReady, "readiness probe: ready: exit code 1 (as asked)")
		advance(time.Minute)
		look(true, resources.ReasonNotReady, "readiness probe: ready: exit code 1 (as asked)")
		f.answer("ready", 0)
		advance(10 * time.Second)
		look(false, "", "")
		f.answer("ready", 1)
		advance(10 * time.Second)
		look(false, "", "") // once is not enough
		advance(10 * time.Second)
		look(true, resources.ReasonNotReady, "readiness probe: ready: exit code 1 (as asked)")
		if slices.Contains(f.calls, "stop") {
			t.Error("what is not ready was stopped")
		}
	})
}

// A replica that is not alive is started again, as after any failure, though
// its program ends well when it is asked to.
func TestLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		alive := asks("alive")
		alive.InitialDelay = resources.Duration(5 * time.Second)
		l := run(t, f, healthy(resources.Health{Liveness: alive}))
		advance(time.Minute)
		expect(t, l, resources.ReplicaRunning)
		f.answer("alive", 7)
		advance(15 * time.Second) // asked after 65 and 75 seconds
		if s := l.statuses()[0]; s.State != resources.ReplicaRunning || s.Restarts != 1 || s.Failures != 1 ||
			s.Reason != resources.ReasonUnhealthy || s.Message != "its liveness probe failed 2 in a row: alive: exit code 7 (as asked)" {
			t.Errorf("%+v", s)
		}
		advance(15 * time.Second) // and again, so that it waits
		expect(t, l, resources.ReplicaBackoff)
		f.answer("alive", 0)
		advance(time.Minute)
		if s := l.statuses()[0]; s.State != resources.ReplicaRunning || s.Restarts != 2 || s.NotReady || s.Reason != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.answer("up", 1)
		l := run(t, f, healthy(resources.Health{Startup: asks("up"), Readiness: asks("ready"), Liveness: asks("alive")}))
		f.answer("alive", 1)
		advance(9 * time.Second)
		expect(t, l, resources.ReplicaStarting)
		f.answer("up", 0)
		f.answer("alive", 0)
		advance(time.Second)
		expect(t, l, resources.ReplicaRunning)
		if l.statuses()[0].NotReady {
			t.Error("it is not ready at once")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.slow = true
		l := run(t, f, healthy(resources.Health{Startup: asks("up")}))
		advance(11*time.Second + time.Millisecond)
		if s := l.statuses()[0]; s.Restarts != 1 || s.State != resources.ReplicaStarting || !strings.Contains(s.Message, "its startup probe failed 2 in a row: up: no answer within 1s") {
			t.Errorf("what never starts is not started again: %+v", s)
		}
	})
}

// An agent that is started again doesn't take ready replicas out of service.
func TestReadyWhileTheAgentRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.containers["web-0-x"] = &resources.Container{ID: "web-0-x", Replica: "web-0-x", Running: true, StartedAt: time.Now()}
		advance(time.Minute)
		f.slow = true
		l := run(t, f, healthy(resources.Health{Readiness: asks("ready")}))
		if s := l.statuses()[0]; s.State != resources.ReplicaRunning || s.NotReady {
			t.Errorf("%+v", s)
		}
		advance(20 * time.Second)
		if s := l.statuses()[0]; !s.NotReady {
			t.Errorf("%+v", s)
		}
	})
}

// What a program answers, and what a person reads of it.
func TestAskOverTheNetwork(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sick":
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "no database\nmore\n") //nolint:errcheck // the client reads it
		case "/elsewhere":
			http.Redirect(w, r, "/sick", http.StatusFound)
		case "/late":
			<-r.Context().Done()
		case "/named":
			if r.Host != "shop.example" || r.Header.Get("X-Probe") != "yes" {
				w.WriteHeader(http.StatusBadRequest)
			}
		}
	}))
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := silent.Addr().(*net.TCPAddr).Port
	silent.Close() //nolint:errcheck // nobody listens there any more
	port := func(s *httptest.Server) int { return s.Listener.Addr().(*net.TCPAddr).Port }
	get := func(path string) *resources.Probe {
		return &resources.Probe{HTTP: &resources.HTTPProbe{Port: port(web), Path: path, Scheme: "http"}}
	}
	named := get("/named")
	named.HTTP.Headers = map[string]string{"Host": "shop.example", "X-Probe": "yes"}
	for name, test := range map[string]struct {
		probe *resources.Probe
		want  string // the end of it
	}{
		"well":           {get("/"), ""},
		"sick":           {get("/sick"), "the answer is 503 Service Unavailable (no database)"},
		"a redirect":     {get("/elsewhere"), ""},
		"late":           {get("/late"), "no answer within 100ms"},
		"headers":        {named, ""},
		"https":          {&resources.Probe{HTTP: &resources.HTTPProbe{Port: port(secure), Path: "/", Scheme: "https"}}, "the answer is 404 Not Found (404 page not found)"},
		"a connection":   {&resources.Probe{TCP: &resources.TCPProbe{Port: port(web)}}, ""},
		"nobody listens": {&resources.Probe{TCP: &resources.TCPProbe{Port: free}}, "connection refused"},
	} {
		test.probe.Timeout = resources.Duration(100 * time.Millisecond)
		if test.want == "" {
			test.probe.Timeout = resources.Duration(10 * time.Second)
		}
		got := ask(context.Background(), newFake(), resources.Container{Address: "127.0.0.1"}, test.probe)
		if got != test.want && (test.want == "" || !strings.HasSuffix(got, test.want)) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
