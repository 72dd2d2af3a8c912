package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// line writes one line of a watch.
func line(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set(api.Header, api.Version)
	fmt.Fprintf(w, format, args...)
	http.NewResponseController(w).Flush() //nolint:errcheck // the client may have gone
}

// A watch goes on where its stream, its connection or its server breaks, in the
// middle of a value too, and ends when the thing is gone.
func TestWatchResumes(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t, key.PublicKey())
	var streams atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services/web", func(w http.ResponseWriter, r *http.Request) {
		switch n := streams.Add(1); n {
		case 1:
			line(w, "\n{\"revision\":1}\n{\"revi")
			panic(http.ErrAbortHandler)
		case 2:
			line(w, "{\"revision\":2}\n")
			<-r.Context().Done()
		case 3: // it ends without a word
			line(w, "")
		default:
			line(w, "{\"revision\":%d}\nnull\n", n)
		}
	})
	var seen []int
	err := d.Server(sshd.endpoint(serve(t, mux).socket)).WatchService(t.Context(), "web", func(s resources.ServiceStatus) (bool, error) {
		seen = append(seen, s.Revision)
		if s.Revision == 2 {
			sshd.kill()
		}
		return true, nil
	})
	if !errors.Is(err, api.ErrGone) || !slices.Equal(seen, []int{1, 2, 4}) {
		t.Errorf("saw %v, and %v at the end", seen, err)
	}
}

// A watch whose connection is dead begins anew after three pulses.
func TestASilentWatchBeginsAnew(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var streams atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services/web", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Skerry-Pulse", "20ms")
		line(w, "{\"revision\":%d}\n", streams.Add(1))
		<-r.Context().Done()
	})
	s := dialer(t, Options{}).Server(resources.Endpoint{Socket: serve(t, mux).socket})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := s.WatchService(ctx, "web", func(s resources.ServiceStatus) (bool, error) { return s.Revision < 2, nil })
	if err != nil {
		t.Error(err)
	}
}

func TestWatchEnds(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services/web", func(w http.ResponseWriter, r *http.Request) {
		line(w, "{\"revision\":1}\n")
		<-r.Context().Done()
	})
	mux.Handle("GET /v1/services/broken", api.Handler(func(*http.Request) (any, error) {
		return nil, api.Errorf(http.StatusTeapot, "short and stout")
	}))
	s := dialer(t, Options{}).Server(resources.Endpoint{Socket: serve(t, mux).socket})
	enough := errors.New("enough")
	if err := s.WatchService(t.Context(), "web", func(resources.ServiceStatus) (bool, error) { return true, enough }); !errors.Is(err, enough) {
		t.Errorf("see's error came back as %v", err)
	}
	if err := s.WatchService(t.Context(), "web", func(resources.ServiceStatus) (bool, error) { return false, nil }); err != nil {
		t.Errorf("a watch that has seen enough: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.WatchService(ctx, "web", func(resources.ServiceStatus) (bool, error) { cancel(); return true, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	err = s.WatchService(t.Context(), "broken", func(resources.ServiceStatus) (bool, error) { return true, nil })
	mention(t, err, "short and stout")
}

// DeleteService returns when the last container is gone, and not before.
func TestDeleteServiceWaits(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var gone atomic.Bool
	mux := http.NewServeMux()
	mux.Handle("DELETE /v1/services/web", api.Handler(func(*http.Request) (any, error) { return nil, nil }))
	mux.HandleFunc("GET /v1/services/web", func(w http.ResponseWriter, _ *http.Request) {
		line(w, "{\"revision\":1}\n")
		gone.Store(true)
		line(w, "null\n")
	})
	s := dialer(t, Options{}).Server(resources.Endpoint{Socket: serve(t, mux).socket})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.DeleteService(ctx, "web"); err != nil || !gone.Load() {
		t.Errorf("it returned %v, gone is %t", err, gone.Load())
	}
}

// A call outlasts the restart of its server.
func TestCallsOutlastARestart(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	f := node(t)
	agent := dialer(t, Options{}).Agent(resources.Endpoint{Socket: f.socket})
	if _, err := agent.Node(t.Context()); err != nil {
		t.Fatal(err)
	}
	handler := f.server.Handler
	f.server.Close() //nolint:errcheck // it is meant to break
	answered := make(chan error, 1)
	go func() {
		_, err := agent.Node(t.Context())
		answered <- err
	}()
	f.start(t, handler)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
