package provider

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name   string
		status resources.ServiceStatus
		more   bool
		want   []string // words of the error; none for success
	}{
		{"on its way", resources.ServiceStatus{Revision: 2, State: resources.ServiceRolling}, true, nil},
		{"it runs", resources.ServiceStatus{Revision: 2, State: resources.ServiceRunning, Stable: 2}, false, nil},
		{"the first revision can't run", resources.ServiceStatus{Revision: 2, State: resources.ServiceFailed, Message: "why"}, false, []string{"web can't run: why"}},
		{"a rollout is paused", resources.ServiceStatus{Revision: 2, State: resources.ServiceFailed, Stable: 1, Message: "why"}, false, []string{"revision 2 can't run: why", "paused"}},
		{"it ran, and fails now", resources.ServiceStatus{Revision: 2, State: resources.ServiceFailed, Stable: 2, Message: "why"}, false, []string{"web can't run: why"}},
		{"a rollback is on its way", resources.ServiceStatus{Revision: 3, RolledBack: 2, State: resources.ServiceRolling}, true, nil},
		{"it was rolled back", resources.ServiceStatus{Revision: 3, RolledBack: 2, State: resources.ServiceRunning, Message: "revision 2 was rolled back: why"}, false, []string{"revision 2 was rolled back: why", "Revision 3 runs"}},
		{"the rollback fails", resources.ServiceStatus{Revision: 3, RolledBack: 2, State: resources.ServiceFailed, Message: "why"}, false, []string{"rollback", "can't run either: why"}},
		{"somebody else was here", resources.ServiceStatus{Revision: 3, State: resources.ServiceRunning}, false, []string{"somebody else"}},
		{"and was rolled back", resources.ServiceStatus{Revision: 4, RolledBack: 3, State: resources.ServiceRunning}, false, []string{"somebody else"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.status.Service.Name = "web"
			more, err := outcome(2, c.status)
			if more != c.more || (err != nil) != (c.want != nil) {
				t.Fatalf("more is %t, and the error %v", more, err)
			}
			for _, word := range c.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error lacks %q: %v", word, err)
				}
			}
		})
	}
}

// The order of replicas says nothing, and those of one node share its port.
func TestAddressesAreSortedAndThereOnce(t *testing.T) {
	var s Service
	s.fill(resources.ServiceStatus{Replicas: []resources.ReplicaSummary{
		{Wanted: true, Published: []string{"10.0.0.2:80", "10.0.0.2:443"}},
		{Wanted: true, Published: []string{"10.0.0.1:80"}},
		{Published: []string{"10.0.0.3:80"}},
		{Wanted: true, Published: []string{"10.0.0.2:80", "10.0.0.2:443"}},
	}})
	if want := []string{"10.0.0.1:80", "10.0.0.2:443", "10.0.0.2:80"}; !slices.Equal(s.Addresses, want) {
		t.Errorf("%v, want %v", s.Addresses, want)
	}
}

// controlPlane runs a server with one node, whose replicas run unless their
// image ends in "bad", or they have the second value of the secret word. It returns
// the endpoint.
func controlPlane(t *testing.T) string {
	t.Helper()
	s := server.New(server.Config{
		Cluster: resources.ClusterConfig{ID: "0123456789abcdef", Name: "home"}, Store: &store.Memory{}, Log: slog.New(slog.DiscardHandler),
		Self:    resources.ServerAddress{Node: "n1"},
		Images:  noImages{http.NotFoundHandler()},
		Resolve: func(context.Context, string, map[string]server.Access) (string, error) { return "", nil },
	})
	dir, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
	dialer := client.NewDialer(client.Options{})
	api := dialer.Server(resources.Endpoint{Socket: socket})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })          //nolint:errcheck // it ends with the test
	running.Go(func() { web.Serve(listener) }) //nolint:errcheck // it ends with Close
	t.Cleanup(func() {
		cancel()
		web.Close() //nolint:errcheck // the test is over
		dialer.Close()
		running.Wait()
		os.RemoveAll(dir) //nolint:errcheck // a directory in the temporary directory
	})
	room := resources.Capacity{CPU: 4000, Memory: 4 * resources.GiB}
	if err := api.PutNode(ctx, resources.NodeInfo{ID: "n1", Name: "n1", Capacity: room, Allocatable: room}); err != nil {
		t.Fatal(err)
	}
	if err := api.PutStatus(ctx, "n1", nil, 0); err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		api.WatchAssignment(ctx, "n1", func(said resources.Assignment) { //nolint:errcheck // it ends with the test
			statuses := []resources.ReplicaStatus{}
			for _, r := range said.Replicas {
				statuses = append(statuses, behave(r))
			}
			api.PutStatus(ctx, "n1", statuses, 0) //nolint:errcheck // the test may be over
		})
	})
	return "unix://" + socket + "?cluster=0123456789abcdef"
}

// noImages is a registry that holds nothing.
type noImages struct{ http.Handler }

func (noImages) Has(context.Context, string, string) (bool, error) { return false, nil }

func (noImages) Delete(context.Context, string, string) error { return nil }

func behave(r resources.Replica) resources.ReplicaStatus {
	s := resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaRunning, StartedAt: r.Created}
	switch {
	case !r.Wanted:
		s.State = resources.ReplicaGone
	case strings.HasSuffix(r.Template.Image, "bad"), r.Contents["secret/word"] == 2:
		code := 3
		s.State, s.Failures, s.ExitCode = resources.ReplicaBackoff, 3, &code
		s.Reason, s.Message, s.LogTail = resources.ReasonCrashed, "it ended at once", []string{"no database"}
	}
	return s
}

// A failed rollout is an error with its reasons, and what is read afterwards is
// what runs.
func TestAFailedRolloutIsAnError(t *testing.T) {
	connections, err := connect(slog.New(slog.DiscardHandler), "1.2.3")(t.Context(), &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connections.machines.Close)
	s := &Service{Cluster: controlPlane(t)}
	s.Name, s.Replicas, s.Image = "web", 2, "localhost/web:1"
	s.Update.OnFailure = resources.OnFailureRollback
	s.SetDefaults()
	if err := createService(t.Context(), connections, s); err != nil {
		t.Fatal(err)
	}
	read := func() (*Service, []string) {
		now := &Service{Cluster: s.Cluster}
		now.Name = s.Name
		reading, err := services.read(t.Context(), connections, now)
		if err != nil {
			t.Fatal(err)
		}
		return now, reading.Warnings
	}
	update := func(change func(*Service)) error {
		planned := *s
		change(&planned)
		return service.Update(t.Context(), connections, s, &planned)
	}
	holds := func(err error, words ...string) {
		t.Helper()
		if err == nil {
			t.Fatal("the update has not failed")
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error lacks %q: %v", word, err)
			}
		}
	}

	err = update(func(s *Service) { s.Image = "localhost/web:bad" })
	holds(err, "revision 2 was rolled back", "on node n1: Crashed: it ended at once (exit code 3)", "no database", "Revision 3 runs")
	now, warnings := read()
	if now.Image != "localhost/web:1" || now.Revision != 3 || now.State != "running" || now.ReadyReplicas != 2 || len(warnings) > 0 {
		t.Errorf("what is read after the rollback: %+v, %q", now, warnings)
	}

	err = update(func(s *Service) { s.Image, s.Update.OnFailure = "localhost/web:bad", resources.OnFailurePause })
	holds(err, "revision 4 can't run", "Crashed", "no database", "paused")
	now, warnings = read()
	if now.Image != "localhost/web:bad" || now.State != "failed" || len(warnings) != 1 || !strings.Contains(warnings[0], "no database") {
		t.Errorf("what is read while it is paused: %+v, %q", now, warnings)
	}

	if err := update(func(s *Service) { s.Image = "localhost/web:2" }); err != nil {
		t.Error(err)
	}
	if now, _ := read(); now.Revision != 5 || now.State != "running" || now.ReadyReplicas != 2 {
		t.Errorf("what is read in the end: %+v", now)
	}
	if warnings, err := services.delete(t.Context(), connections, s); err != nil || len(warnings) > 0 {
		t.Error(warnings, err)
	}
}

// The count of an autoscaled service is no difference to what the user wrote, and
// other bounds hold with the apply that brings them.
func TestTheCountOfAnAutoscaledServiceIsNoDrift(t *testing.T) {
	connections, err := connect(slog.New(slog.DiscardHandler), "1.2.3")(t.Context(), &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connections.machines.Close)
	s := &Service{Cluster: controlPlane(t)}
	s.Name, s.Replicas, s.Image, s.Autoscale = "web", 1, "localhost/web:1", &resources.Autoscale{Min: 1, Max: 5, CPU: 50}
	s.SetDefaults()
	if err := createService(t.Context(), connections, s); err != nil {
		t.Fatal(err)
	}
	planned := *s
	planned.Autoscale = &resources.Autoscale{Min: 3, Max: 5, CPU: 50}
	if err := service.Update(t.Context(), connections, s, &planned); err != nil {
		t.Fatal(err)
	}
	if planned.ReadyReplicas != 3 || planned.CurrentReplicas != 3 || planned.Replicas != 1 || planned.Revision != 1 {
		t.Errorf("after the update: %+v", planned)
	}
	now := &Service{Cluster: s.Cluster}
	now.Name = s.Name
	if _, err := services.read(t.Context(), connections, now); err != nil || now.CurrentReplicas != 3 || now.Replicas != 1 {
		t.Errorf("what is read: %+v, %v", now, err)
	}
}

// A control plane of an earlier version takes an autoscaled service for another
// one, and says nothing of that.
func TestAnEarlierControlPlaneKnowsNoAutoscale(t *testing.T) {
	connections, err := connect(slog.New(slog.DiscardHandler), "1.2.3")(t.Context(), &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connections.machines.Close)
	dir, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	earlier := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"service": {"name": "web", "image": "localhost/web:1", "replicas": 1}, "revision": 1, "state": "running"}`)) //nolint:errcheck // a test
	})}
	go earlier.Serve(listener)            //nolint:errcheck // it ends with the test
	t.Cleanup(func() { earlier.Close() }) //nolint:errcheck // the test is over
	s := &Service{Cluster: "unix://" + filepath.Join(dir, "s")}
	s.Name, s.Replicas, s.Image, s.Autoscale = "web", 1, "localhost/web:1", &resources.Autoscale{Min: 1, Max: 5, CPU: 50}
	if err := putService(t.Context(), connections, s); err == nil || !strings.Contains(err.Error(), "upgrade the cluster first") {
		t.Errorf("the error is %v", err)
	}
}
