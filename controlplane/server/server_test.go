package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAServiceComesToRun(t *testing.T) {
	c := start(t, &store.Memory{})
	c.join(t, "n1", runs)
	first := c.put(t, web(2))
	if first.Revision != 1 || first.State != resources.ServiceRolling || first.ImageDigest != digest {
		t.Errorf("the answer of the put: %+v", first)
	}
	if first.Service.Restart != resources.RestartAlways || first.Service.Resources.Memory != resources.DefaultMemory {
		t.Errorf("the defaults are missing: %+v", first.Service)
	}
	status := c.until(t, "web", running(1))
	for _, r := range status.Replicas {
		if r.Node != "n1" || r.NodeName != "n1" || !strings.HasPrefix(string(r.ID), "web-") {
			t.Errorf("replica %+v", r)
		}
	}
	all, err := c.Services(t.Context())
	if err != nil || len(all) != 1 || all[0].Ready != 2 {
		t.Errorf("the list is %+v, %v", all, err)
	}
	config, err := c.Cluster(t.Context())
	if err != nil || config.Name != "home" {
		t.Errorf("the cluster is %+v, %v", config, err)
	}
	nodes, err := c.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || !nodes[0].Ready || nodes[0].Replicas != 2 || nodes[0].Reserved.Memory != 2*resources.DefaultMemory {
		t.Errorf("the nodes are %+v, %v", nodes, err)
	}
}

func TestRevisions(t *testing.T) {
	c := start(t, &store.Memory{})
	c.join(t, "n1", runs)
	c.put(t, web(2))
	before := c.until(t, "web", running(1))

	t.Run("the same service changes nothing", func(t *testing.T) {
		c.put(t, web(2))
		same := web(2)
		same.SetDefaults()
		same.Command, same.Env = []string{}, map[string]string{}
		if status := c.put(t, same); status.Revision != 1 || !cmp.Equal(ids(status), ids(before)) {
			t.Errorf("it became %+v", status)
		}
	})
	t.Run("another count leaves what runs alone", func(t *testing.T) {
		c.put(t, web(3))
		more := c.until(t, "web", running(1))
		for id := range ids(before) {
			if !ids(more)[id] {
				t.Errorf("replica %s is gone", id)
			}
		}
		c.put(t, web(2))
		if fewer := c.until(t, "web", running(1)); !cmp.Equal(ids(fewer), ids(before)) {
			t.Errorf("left are %v, want %v", ids(fewer), ids(before))
		}
	})
	t.Run("another template replaces all", func(t *testing.T) {
		next := web(2)
		next.Env = map[string]string{"COLOUR": "blue"}
		if status := c.put(t, next); status.Revision != 2 {
			t.Errorf("revision %d", status.Revision)
		}
		after := c.until(t, "web", running(2))
		for id := range ids(after) {
			if ids(before)[id] {
				t.Errorf("replica %s is still there", id)
			}
		}
	})
	if got := len(c.resolver.asked); got != 2 {
		t.Errorf("the registry was asked %d times for 2 revisions: %v", got, c.resolver.asked)
	}
}

func TestDeleteWaitsUntilAllIsGone(t *testing.T) {
	c := start(t, &store.Memory{})
	var left atomic.Int32
	c.join(t, "n1", func(r resources.Replica) resources.ReplicaStatus {
		left.Store(0)
		if r.Wanted {
			left.Store(1)
		}
		return runs(r)
	})
	c.put(t, web(2))
	c.until(t, "web", running(1))
	watched := make(chan error, 1)
	go func() {
		watched <- c.WatchService(t.Context(), "web", func(resources.ServiceStatus) (bool, error) { return true, nil })
	}()
	if err := c.DeleteService(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if left.Load() != 0 {
		t.Error("a container was left")
	}
	if err := <-watched; !errors.Is(err, api.ErrGone) {
		t.Errorf("the watch ended with %v", err)
	}
	if _, err := c.Service(t.Context(), "web"); !api.IsNotFound(err) {
		t.Errorf("reading it: %v, want not found", err)
	}
	if err := c.DeleteService(t.Context(), "web"); err != nil {
		t.Errorf("deleting it again: %v", err)
	}
	c.put(t, web(1))
	c.until(t, "web", running(1))
}

// A service that is put while it is being deleted is wanted again.
func TestPutWhileDeleting(t *testing.T) {
	c := start(t, &store.Memory{})
	var mayStop atomic.Bool
	stopping := make(chan struct{}, 100)
	c.join(t, "n1", func(r resources.Replica) resources.ReplicaStatus {
		if !r.Wanted && !mayStop.Load() {
			stopping <- struct{}{}
			return resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaStopping}
		}
		return runs(r)
	})
	c.put(t, web(1))
	c.until(t, "web", running(1))
	deleting, cancel := context.WithCancel(t.Context())
	var deleted sync.WaitGroup
	deleted.Go(func() { c.DeleteService(deleting, "web") }) //nolint:errcheck // it is overtaken
	<-stopping
	cancel()
	deleted.Wait()
	mayStop.Store(true)
	if status := c.put(t, web(2)); status.Revision != 1 || status.State != resources.ServiceRolling {
		t.Errorf("it became %+v", status)
	}
	c.until(t, "web", func(s resources.ServiceStatus) bool { return len(s.Replicas) == 2 && s.Ready >= 1 })
}

func TestRefusals(t *testing.T) {
	c := start(t, &store.Memory{})
	notFound := &transport.Error{StatusCode: http.StatusNotFound}
	_, badName := name.ParseReference("Docker.io/UPPER:case")
	for _, c2 := range []struct {
		name    string
		change  func(*resources.Service)
		resolve error
		paths   []string
	}{
		{"two mistakes", func(s *resources.Service) { s.Replicas, s.Restart = -1, "sometimes" }, nil, []string{"replicas", "restart"}},
		{"own image without a digest", func(s *resources.Service) { s.Image = resources.Registry + "/web:1" }, nil, []string{"image"}},
		{"own image that is absent", func(s *resources.Service) { s.Image = resources.ImageReference("web", digest) }, nil, []string{"image"}},
		{"no such image", func(*resources.Service) {}, notFound, []string{"image"}},
		{"no reference", func(*resources.Service) {}, badName, []string{"image"}},
	} {
		t.Run(c2.name, func(t *testing.T) {
			c.resolver.err = c2.resolve
			s := web(1)
			c2.change(&s)
			_, err := c.PutService(t.Context(), s)
			var e *api.Error
			if !errors.As(err, &e) || e.Status != http.StatusUnprocessableEntity {
				t.Fatalf("it was answered with %v", err)
			}
			var paths []string
			for _, p := range e.Problems {
				paths = append(paths, p.Path)
			}
			if diff := cmp.Diff(c2.paths, paths); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if all, err := c.Services(t.Context()); err != nil || len(all) > 0 {
				t.Errorf("what was refused was kept: %v, %v", all, err)
			}
		})
	}
}

func TestImages(t *testing.T) {
	c := start(t, &store.Memory{})
	c.images["team/web@"+digest] = true
	own := web(0)
	own.Image = resources.ImageReference("team/web", digest)
	if status := c.put(t, own); status.ImageDigest != digest {
		t.Errorf("the digest of an own image is %q", status.ImageDigest)
	}
	pinned := web(0)
	pinned.Image = "docker.io/library/web@" + digest
	if status := c.put(t, pinned); status.ImageDigest != digest {
		t.Errorf("a pinned digest became %q", status.ImageDigest)
	}
	for _, image := range []string{"localhost/web:1", "docker://quay.io/web:1"} {
		s := web(0)
		s.Image = image
		if status := c.put(t, s); status.ImageDigest != "" {
			t.Errorf("the digest of %s is %q", image, status.ImageDigest)
		}
	}
	if len(c.resolver.asked) > 0 {
		t.Errorf("registries were asked about %v", c.resolver.asked)
	}
	// A registry that doesn't answer here may answer the nodes.
	c.resolver.err = errors.New("no route to host")
	if status := c.put(t, web(0)); status.ImageDigest != "" {
		t.Errorf("an unknown digest is %q", status.ImageDigest)
	}
	events, err := c.Events(t.Context())
	told := func(e resources.Event) bool { return e.Reason == "NotResolved" && e.Message == "no route to host" }
	if err != nil || !slices.ContainsFunc(events, told) {
		t.Errorf("nobody is told: %v, %v", events, err)
	}
	if found, err := c.HasImage(t.Context(), "team/web", digest); err != nil || !found {
		t.Errorf("HasImage: %t, %v", found, err)
	}
	if err := c.DeleteImage(t.Context(), "team/web", digest); err != nil {
		t.Fatal(err)
	}
	if found, err := c.HasImage(t.Context(), "team/web", digest); err != nil || found {
		t.Errorf("HasImage after the deletion: %t, %v", found, err)
	}
}

// A failed service says why, and runs once it can.
func TestAFailureIsTold(t *testing.T) {
	c := start(t, &store.Memory{})
	code := 127
	c.join(t, "n1", func(r resources.Replica) resources.ReplicaStatus {
		if r.Wanted && r.Template.Command != nil {
			return resources.ReplicaStatus{
				ID: r.ID, State: resources.ReplicaBackoff, Reason: resources.ReasonCommandNotFound,
				Message: "no such file", ExitCode: &code, Failures: 3, LogTail: []string{"last words"},
			}
		}
		return runs(r)
	})
	bad := web(1)
	bad.Command = []string{"/absent"}
	c.put(t, bad)
	status := c.until(t, "web", func(s resources.ServiceStatus) bool { return s.State == resources.ServiceFailed })
	for _, word := range []string{"CommandNotFound", "no such file", "127", "last words", "n1"} {
		if !strings.Contains(status.Message, word) {
			t.Errorf("the message lacks %q: %s", word, status.Message)
		}
	}
	c.put(t, web(1))
	c.until(t, "web", running(2))
}

// Several leaders' worth of traffic writes at once, and nothing is lost.
func TestConcurrentWrites(t *testing.T) {
	s := &contended{}
	c := start(t, s)
	c.join(t, "n1", runs)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for count := range 4 {
				service := web(count % 2)
				service.Name += string(rune('a' + i))
				if _, err := c.PutService(t.Context(), service); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	for i := range 8 {
		c.until(t, "web"+string(rune('a'+i)), running(1))
	}
	if s.refused.Load() == 0 {
		t.Error("no commit was stale: the test tests nothing")
	}
	if got := len(c.resolver.asked); got != 8 {
		t.Errorf("8 images were resolved %d times", got)
	}
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Reason == "Revised" && e.Count != 1 {
			t.Errorf("one revision was told %d times: %+v", e.Count, e)
		}
	}
}

// contended refuses every third commit, as a busy store does.
type contended struct {
	store.Memory
	commits, refused atomic.Int32
}

func (c *contended) Commit(ctx context.Context, from *store.State, changes []store.Change) error {
	if c.commits.Add(1)%3 == 0 {
		c.refused.Add(1)
		// Something else was written, or nobody would be told.
		if state, err := c.Load(ctx); err == nil {
			c.Memory.Commit(ctx, state, []store.Change{store.DeleteNode("other")}) //nolint:errcheck // it is only noise
		}
		return store.ErrStale
	}
	return c.Memory.Commit(ctx, from, changes)
}

func TestNodes(t *testing.T) {
	c := start(t, &store.Memory{})
	if err := c.PutStatus(t.Context(), "n1", nil, 0); !api.IsNotFound(err) {
		t.Errorf("the status of a node that is not registered: %v, want not found", err)
	}
	if err := c.WatchAssignment(t.Context(), "n1", func(resources.Assignment) {}); !errors.Is(err, api.ErrGone) {
		t.Errorf("its assignments: %v, want ErrGone", err)
	}
	c.join(t, "n1", runs)
	c.put(t, web(1))
	before := c.until(t, "web", running(1))
	c.join(t, "n2", runs)
	watch := make(chan error, 1)
	go func() { watch <- c.WatchAssignment(t.Context(), "n1", func(resources.Assignment) {}) }()
	if err := c.DeleteNode(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if err := <-watch; !errors.Is(err, api.ErrGone) {
		t.Errorf("the assignments of a removed node: %v, want ErrGone", err)
	}
	after := c.until(t, "web", func(s resources.ServiceStatus) bool { return running(1)(s) && s.Replicas[0].Node == "n2" })
	if cmp.Equal(ids(before), ids(after)) {
		t.Error("a replica has moved; it has to be replaced")
	}
	if err := c.DeleteNode(t.Context(), "n1"); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}

// A service that waits for a node begins when one joins.
func TestWaitingForANode(t *testing.T) {
	c := start(t, &store.Memory{})
	c.put(t, web(1))
	c.until(t, "web", func(s resources.ServiceStatus) bool {
		return len(s.Replicas) == 1 && s.Replicas[0].Status.Message == "the cluster has no nodes"
	})
	c.join(t, "n1", runs)
	c.until(t, "web", running(1))
	big := web(1)
	big.Name, big.Resources.Memory = "big", 64*resources.GiB
	c.put(t, big)
	status := c.until(t, "big", func(s resources.ServiceStatus) bool { return s.State == resources.ServiceFailed })
	if !strings.Contains(status.Message, "too small in memory") {
		t.Errorf("the message is %q", status.Message)
	}
}

// A view that was taken before a report must not hide it, whoever is faster.
func TestTheBoardNeverGoesBack(t *testing.T) {
	s := New(Config{Store: &store.Memory{}, Log: nil})
	now := time.Now()
	old := (&store.State{Revision: 1}).With(store.PutReplica(resources.Replica{ID: "r", Node: "n1"}))
	fresh := (&store.State{Revision: 2}).With(store.PutReplica(resources.Replica{ID: "r", Node: "n1", Wanted: true}))
	s.board.put(fresh, now)
	s.reports.put("n1", []resources.ReplicaStatus{{ID: "r", State: resources.ReplicaRunning}}, now)
	v := s.board.put(old, now)
	if !v.state.Replicas.Get("r").Wanted || v.seen["r"].State != resources.ReplicaRunning {
		t.Errorf("the board shows %+v and %+v", v.state.Replicas.Get("r"), v.seen)
	}
}
