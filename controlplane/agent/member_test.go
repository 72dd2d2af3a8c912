package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// fakeServer is a control plane that signs certificates.
type fakeServer struct {
	Server
	authority *pki.Authority
	servers   map[resources.NodeID]bool
	signed    int
}

func newServer(t *testing.T) *fakeServer {
	t.Helper()
	pair, err := pki.NewAuthority("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.ReadAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeServer{authority: authority, servers: map[resources.NodeID]bool{}}
}

func (f *fakeServer) SignCertificate(_ context.Context, id resources.NodeID, request resources.CertificateRequest) (resources.Join, error) {
	f.signed++
	certificate, err := f.authority.Sign(request.Request, id, f.servers[id], time.Now())
	return resources.Join{
		Cluster:     resources.ClusterConfig{ID: "c1", Name: "home", Servers: []resources.ServerAddress{{Node: "s1", Host: "10.0.0.1"}}},
		Certificate: certificate, Authority: f.authority.Certificate(),
	}, err
}

// worker is a node that has joined the cluster as a worker, as the plugin makes
// it do.
func worker(t *testing.T) (*Agent, *fakePlane, *fakeServer) {
	t.Helper()
	plane, server := &fakePlane{}, newServer(t)
	a := newAgent(t, plane)
	a.Server = server
	w := call(t, a, http.MethodPost, "/v1/node/certificate-request", "")
	var request resources.CertificateRequest
	if err := json.Unmarshal(w.Body.Bytes(), &request); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	join, err := server.SignCertificate(t.Context(), "abc", request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(join)
	if err != nil {
		t.Fatal(err)
	}
	if w := call(t, a, http.MethodPut, "/v1/cluster", string(text)); w.Code != http.StatusNoContent {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return a, plane, server
}

func identity(t *testing.T, a *Agent) pki.Identity {
	t.Helper()
	c, err := Credentials(a.Data)
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.Server()
	if err != nil {
		t.Fatal(err)
	}
	who, err := pki.IdentityOf(config.Certificates[0].Leaf)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func TestAWorkerJoins(t *testing.T) {
	a, plane, _ := worker(t)
	if plane.starts != 0 {
		t.Error("a worker runs a control plane")
	}
	if who := identity(t, a); who != (pki.Identity{Node: "abc"}) {
		t.Errorf("its certificate says %+v", who)
	}
	info, err := a.Info()
	if err != nil || info.Cluster != "c1" || info.Server {
		t.Errorf("it says %+v, %v", info, err)
	}
	// It is not the first server of anything.
	if w := call(t, a, http.MethodPut, "/v1/cluster", `{"cluster":{"id":"c1","name":"home"}}`); w.Code != http.StatusConflict {
		t.Errorf("a worker begins its cluster anew: %d", w.Code)
	}
}

// A node becomes a server when the control plane says so, and a worker again.
func TestTheControlPlaneMakesServers(t *testing.T) {
	a, plane, server := worker(t)
	addresses := []resources.ServerAddress{{Node: "abc", Host: "10.0.0.2"}, {Node: "s1", Host: "10.0.0.1"}}
	server.servers["abc"] = true
	said := resources.Assignment{Servers: addresses, Server: &resources.ServerConfig{Join: map[resources.NodeID]string{"abc": "10.0.0.2:5057", "s1": "10.0.0.1:5057"}}}
	for range 2 {
		if err := a.follow(t.Context(), said); err != nil {
			t.Fatal(err)
		}
	}
	if plane.starts != 1 || !identity(t, a).Server {
		t.Errorf("%d starts; its certificate says %+v", plane.starts, identity(t, a))
	}
	// So it is after a restart, too.
	if there, found, err := Cluster(a.Data); err != nil || !found || there.Server == nil || len(there.Servers) != 2 {
		t.Errorf("it keeps %+v, %v", there, err)
	}
	delete(server.servers, "abc")
	for range 2 {
		if err := a.follow(t.Context(), resources.Assignment{Servers: addresses[1:]}); err != nil {
			t.Fatal(err)
		}
	}
	if plane.stops != 1 || identity(t, a).Server {
		t.Errorf("%d stops; its certificate says %+v", plane.stops, identity(t, a))
	}
}

// drains is a control plane on which a node that is drained is empty after a
// while.
type drains struct {
	*fakeServer
	said     []string
	stranded []resources.Stranded
}

func (d *drains) Stranded(context.Context, resources.NodeID) ([]resources.Stranded, error) {
	return d.stranded, nil
}

func (d *drains) PutAvailability(_ context.Context, id resources.NodeID, a resources.Availability) error {
	d.said = append(d.said, string(id)+" is "+string(a))
	return nil
}

func (d *drains) WatchNode(_ context.Context, _ resources.NodeID, see func(resources.NodeStatus) (bool, error)) error {
	for _, left := range []int{2, 1, 0} {
		d.said = append(d.said, fmt.Sprintf("%d left", left))
		if more, err := see(resources.NodeStatus{Replicas: left}); !more || err != nil {
			return err
		}
	}
	return errors.New("the watch goes on though nothing is left")
}

func (d *drains) LeaveNode(context.Context, resources.NodeID) error {
	d.said = append(d.said, "out")
	return nil
}

func TestANodeLeavesEmpty(t *testing.T) {
	a, _, server := worker(t)
	d := &drains{fakeServer: server}
	a.Server = d
	if w := call(t, a, http.MethodPost, "/v1/node/leave", ""); w.Code != http.StatusNoContent {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	if diff := cmp.Diff([]string{"abc is drained", "2 left", "1 left", "0 left", "out"}, d.said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// It is ready to come back.
	if a.member().ID != "c1" {
		t.Error("it has forgotten its cluster")
	}
}

// A node whose replicas would have nowhere to go says so, and moves none; with
// force it moves those that can go.
func TestANodeLeavesNobodyWithoutAPlace(t *testing.T) {
	const why = "1 replicas of this node would have nowhere to go: my-web-0-x: 0 of 2 nodes fit"
	for _, c := range []struct {
		path, want string
		said       []string
	}{
		{"/v1/node/leave", why + "; make room for them, or leave all the same (--force)", nil},
		{"/v1/node/leave?force", why, []string{"abc is drained", "2 left", "1 left"}},
	} {
		t.Run(c.path, func(t *testing.T) {
			a, _, server := worker(t)
			d := &drains{fakeServer: server, stranded: []resources.Stranded{{Replica: "my-web-0-x", Service: "my-web", Reason: "0 of 2 nodes fit"}}}
			a.Server = d
			a.loop.say(resources.ReplicaStatus{ID: "my-web-0-x"}, resources.ReplicaStatus{ID: "web-0-y"})
			if w := call(t, a, http.MethodPost, c.path, ""); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), `"`+c.want+`"`) {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(c.said, d.said); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever is removed keeps nothing by which it could come back.
func TestARemovedNodeForgets(t *testing.T) {
	a, _, _ := worker(t)
	go a.loop.run(t.Context()) //nolint:errcheck // it ends with the test
	if w := call(t, a, http.MethodDelete, "/v1/cluster?cluster=c1", ""); w.Code != http.StatusNoContent {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	if _, err := Credentials(a.Data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its credentials: %v", err)
	}
	if _, err := os.Stat(a.path(keyFile)); !os.IsNotExist(err) {
		t.Errorf("its key: %v", err)
	}
	if err := a.follow(t.Context(), resources.Assignment{Server: &resources.ServerConfig{}}); err != nil || a.member().ID != "" {
		t.Errorf("a word that comes too late makes it %+v, %v", a.member(), err)
	}
}
