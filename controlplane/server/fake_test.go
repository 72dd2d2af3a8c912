package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// fakeImages is a registry that holds what it is told to.
type fakeImages map[string]bool

func (f fakeImages) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func (f fakeImages) Has(_ context.Context, name, digest string) (bool, error) {
	return f[name+"@"+digest], nil
}

func (f fakeImages) Delete(_ context.Context, name, digest string) error {
	delete(f, name+"@"+digest)
	return nil
}

const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// fakeResolver tells one digest for every reference, and counts the questions.
type fakeResolver struct {
	mu    sync.Mutex // guards both
	asked []string
	err   error
}

func (f *fakeResolver) resolve(_ context.Context, reference string, _ map[string]Access) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, reference)
	if f.err != nil {
		return "", f.err
	}
	return digest, nil
}

// cluster is a server that leads, and a client of it.
type cluster struct {
	*client.Server
	server   *Server
	resolver *fakeResolver
	images   fakeImages
}

// start runs a server on the store until the test ends.
func start(t *testing.T, s store.Store) *cluster {
	t.Helper()
	c := &cluster{resolver: &fakeResolver{}, images: fakeImages{}}
	c.server = New(Config{
		Cluster: resources.ClusterConfig{ID: "c1", Name: "home"}, Self: resources.ServerAddress{Node: "server"}, Authority: newAuthority(t),
		Store: s, Images: c.images, Resolve: c.resolver.resolve, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.server.Run(ctx); err != nil {
			t.Errorf("the leader ended: %v", err)
		}
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
	web := &http.Server{Handler: c.server.Handler(), ReadHeaderTimeout: time.Minute}
	running.Go(func() { web.Serve(listener) }) //nolint:errcheck // it ends with Close
	dialer := client.NewDialer(client.Options{})
	c.Server = dialer.Server(resources.Endpoint{Socket: socket})
	t.Cleanup(func() {
		cancel()
		web.Close() //nolint:errcheck // the test is over
		dialer.Close()
		running.Wait()
		os.RemoveAll(dir) //nolint:errcheck // a directory in the temporary directory
	})
	return c
}

// runs is how containers behave where all is well: they run, and vanish when
// they are not wanted.
func runs(r resources.Replica) resources.ReplicaStatus {
	if !r.Wanted {
		return resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaGone}
	}
	return resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaRunning, StartedAt: r.Created}
}

func nodeInfo(name string) resources.NodeInfo {
	room := resources.Capacity{CPU: 4000, Memory: 4 * resources.GiB}
	return resources.NodeInfo{ID: resources.NodeID(name), Name: name, Addresses: []string{"10.0.0.1"}, Capacity: room, Allocatable: room}
}

// admit lets a node into the cluster, and gives its certificate.
func (c *cluster) admit(t *testing.T, id resources.NodeID) pki.Credentials {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	join, err := c.SignCertificate(t.Context(), id, resources.CertificateRequest{Request: request})
	if err != nil {
		t.Fatal(err)
	}
	return pki.Credentials{Pair: pki.Pair{Certificate: join.Certificate, Key: key}, Authority: join.Authority}
}

func newAuthority(t *testing.T) *pki.Authority {
	t.Helper()
	pair, err := pki.NewAuthority("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.ReadAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// join registers a node, and lets its agent work until the test ends. Its
// replicas do what behave says.
func (c *cluster) join(t *testing.T, name string, behave func(resources.Replica) resources.ReplicaStatus) {
	t.Helper()
	node := nodeInfo(name)
	c.admit(t, node.ID)
	if err := c.PutNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := c.PutStatus(t.Context(), node.ID, nil, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		c.WatchAssignment(ctx, node.ID, func(said resources.Assignment) { //nolint:errcheck // it ends with the test
			statuses := []resources.ReplicaStatus{}
			for _, r := range said.Replicas {
				statuses = append(statuses, behave(r))
			}
			c.PutStatus(ctx, node.ID, statuses, 0) //nolint:errcheck // the test may be over
		})
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// until watches a service until its status is as wanted.
func (c *cluster) until(t *testing.T, name string, wanted func(resources.ServiceStatus) bool) resources.ServiceStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var last resources.ServiceStatus
	err := c.WatchService(ctx, name, func(s resources.ServiceStatus) (bool, error) {
		last = s
		return !wanted(s), nil
	})
	if err != nil {
		t.Fatalf("%v; the service is %+v", err, last)
	}
	return last
}

func running(revision int) func(resources.ServiceStatus) bool {
	return func(s resources.ServiceStatus) bool {
		return s.Revision == revision && s.State == resources.ServiceRunning && len(s.Replicas) == s.Service.Replicas
	}
}

func web(replicas int) resources.Service {
	return resources.Service{Name: "web", Replicas: replicas, Template: resources.Template{Image: "docker.io/library/web:1"}}
}

func (c *cluster) put(t *testing.T, s resources.Service) resources.ServiceStatus {
	t.Helper()
	status, err := c.PutService(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func ids(s resources.ServiceStatus) map[resources.ReplicaID]bool {
	all := map[resources.ReplicaID]bool{}
	for _, r := range s.Replicas {
		all[r.ID] = true
	}
	return all
}
