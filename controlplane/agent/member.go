package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/atomicfile"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// The files of a member's credentials, in its data directory. etcd reads them
// too, by these paths.
const (
	PKIDir          = "pki"
	keyFile         = PKIDir + "/node.key"
	certificateFile = PKIDir + "/node.crt"
	authorityFile   = PKIDir + "/ca.crt"
)

// Credentials returns what a node shows to others of its cluster. The error is
// fs.ErrNotExist where it has none.
func Credentials(data string) (pki.Credentials, error) {
	var c pki.Credentials
	for name, content := range map[string]*[]byte{keyFile: &c.Key, certificateFile: &c.Certificate, authorityFile: &c.Authority} {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			return c, fmt.Errorf("read the node's credentials: %w", err)
		}
		*content = text
	}
	return c, nil
}

// PutCredentials keeps the credentials of a node.
func PutCredentials(data string, c pki.Credentials) error {
	err := os.MkdirAll(filepath.Join(data, PKIDir), 0o700)
	// The certificate comes last: a key without one is asked for one again.
	for _, file := range []struct {
		name    string
		content []byte
	}{{keyFile, c.Key}, {authorityFile, c.Authority}, {certificateFile, c.Certificate}} {
		if err == nil {
			err = atomicfile.Write(filepath.Join(data, file.name), file.content)
		}
	}
	if err != nil {
		return fmt.Errorf("keep the node's credentials: %w", err)
	}
	return nil
}

// request gives the request for the node's certificate. Its key is made once,
// and never leaves the node.
func (a *Agent) request() (resources.CertificateRequest, error) {
	key, err := os.ReadFile(a.path(keyFile))
	if os.IsNotExist(err) {
		if key, err = pki.NewKey(); err == nil {
			if err = os.MkdirAll(a.path(PKIDir), 0o700); err == nil {
				err = atomicfile.Write(a.path(keyFile), key)
			}
		}
	}
	if err != nil {
		return resources.CertificateRequest{}, fmt.Errorf("make the node's key: %w", err)
	}
	request, err := pki.NewRequest(key)
	return resources.CertificateRequest{Request: request}, err
}

// join makes the node a member of a cluster: its first server, where no
// certificate comes with it, and else a worker.
func (a *Agent) join(r *http.Request) (any, error) {
	join, err := api.Body[resources.Join](r)
	if err != nil {
		return nil, err
	}
	a.membership.Lock()
	defer a.membership.Unlock()
	there := a.member()
	if there.ID != "" && there.ID != join.Cluster.ID {
		return nil, api.Errorf(http.StatusConflict, "node %s is in cluster %s (%s) already: remove it there first, or name another node", a.name(), there.Name, there.ID)
	}
	cluster := join.Cluster
	cluster.Server = there.Server
	if len(join.Certificate) == 0 && cluster.Server == nil {
		if there.ID != "" {
			return nil, api.Errorf(http.StatusConflict, "node %s is a worker of cluster %s already, and can't begin it anew", a.name(), there.Name)
		}
		cluster.Server = &resources.ServerConfig{}
	}
	if len(join.Certificate) > 0 {
		if err := a.takeCertificate(join); err != nil {
			return nil, err
		}
	}
	return nil, a.enter(r.Context(), cluster)
}

// takeCertificate keeps a certificate for the node's key.
func (a *Agent) takeCertificate(join resources.Join) error {
	key, err := os.ReadFile(a.path(keyFile))
	if err != nil {
		return fmt.Errorf("read the node's key: %w", err)
	}
	c := pki.Credentials{Pair: pki.Pair{Certificate: join.Certificate, Key: key}, Authority: join.Authority}
	if _, err := c.Server(); err != nil {
		return fmt.Errorf("take the node's certificate: %w", err)
	}
	return PutCredentials(a.Data, c)
}

// enter keeps which cluster the node is in and how, and starts the control
// plane where it takes part in it.
func (a *Agent) enter(ctx context.Context, cluster resources.ClusterConfig) error {
	if err := PutCluster(a.Data, cluster); err != nil {
		return err
	}
	if cluster.Server != nil {
		if err := a.ControlPlane.Start(ctx, cluster); err != nil {
			return fmt.Errorf("start the control plane of cluster %s: %w", cluster.Name, err)
		}
	}
	if !reflect.DeepEqual(a.member(), cluster) {
		a.set(func() { a.cluster = cluster })
	}
	return nil
}

// removed ends what the cluster runs here, and all that the node keeps of it.
func (a *Agent) removed(r *http.Request) (any, error) {
	id := resources.ClusterID(r.URL.Query().Get("cluster"))
	a.membership.Lock()
	defer a.membership.Unlock()
	there := a.member()
	if there.ID == "" || there.ID != id {
		return nil, nil
	}
	a.set(func() { a.cluster = resources.ClusterConfig{} })
	if err := a.drain(r.Context()); err != nil {
		return nil, err
	}
	if there.Server != nil {
		if err := a.ControlPlane.Stop(r.Context()); err != nil {
			return nil, fmt.Errorf("stop the control plane of cluster %s: %w", there.Name, err)
		}
	}
	if a.Network != nil {
		if err := a.loop.networks.leave(r.Context()); err != nil {
			return nil, err
		}
	}
	a.settleRegistries(resources.Assignment{})
	if err := a.loop.contents.leave(); err != nil {
		return nil, err
	}
	for _, name := range []string{assignmentsFile, cacheKeyFile, networkFile, PKIDir, clusterFile} {
		if err := os.RemoveAll(a.path(name)); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil, nil
}

// leave moves what the node does elsewhere before its machine goes away: first
// its part in the control plane, then its replicas. The node stays one of its
// cluster: where its data is kept and comes back, it is what it was. With the
// only server the whole control plane goes, and there is nobody who could move
// anything. Where replicas would have nowhere to go, it says so, and moves nothing
// unless it is asked with ?force.
func (a *Agent) leave(r *http.Request) (any, error) {
	there := a.member()
	if there.ID == "" || there.Server != nil && len(there.Servers) <= 1 {
		return nil, nil
	}
	a.mu.Lock()
	id := a.node.ID
	a.mu.Unlock()
	stranded, err := a.Server.Stranded(r.Context(), id)
	if err != nil && !api.IsNotFound(err) { // an earlier version can't tell
		return nil, fmt.Errorf("leave cluster %s: %w", there.Name, err)
	}
	if len(stranded) > 0 && !r.URL.Query().Has("force") {
		return nil, api.Errorf(http.StatusConflict, "%s; make room for them, or leave all the same (--force)", tellStranded(stranded))
	}
	if there.Server != nil {
		err := a.leaveServers(r.Context(), id)
		if api.IsConflict(err) {
			return nil, nil // the others go, too
		}
		if err != nil {
			return nil, fmt.Errorf("leave cluster %s: %w", there.Name, err)
		}
	}
	if err := a.Server.PutAvailability(r.Context(), id, resources.NodeDrained); err != nil {
		return nil, fmt.Errorf("leave cluster %s: %w", there.Name, err)
	}
	left, stay := 0, a.heldUp(stranded)
	err = a.Server.WatchNode(r.Context(), id, func(s resources.NodeStatus) (bool, error) {
		left = s.Replicas
		return s.Replicas > stay, nil
	})
	if err != nil {
		return nil, fmt.Errorf("leave cluster %s: wait until %d replicas run elsewhere: %w", there.Name, left, err)
	}
	if len(stranded) > 0 {
		return nil, api.Errorf(http.StatusConflict, "%s", tellStranded(stranded))
	}
	// Or the session would register the node again.
	a.set(func() { a.left = true })
	return nil, a.Server.LeaveNode(r.Context(), id)
}

// heldUp counts the replicas that may stay on the node because of those which find
// no other one: a replica without a place holds up the others of its service.
func (a *Agent) heldUp(stranded []resources.Stranded) int {
	services := map[string]bool{}
	for _, s := range stranded {
		services[s.Service] = true
	}
	count := 0
	for _, s := range a.loop.statuses() {
		parts := strings.Split(string(s.ID), "-")
		if services[strings.Join(parts[:max(0, len(parts)-2)], "-")] {
			count++
		}
	}
	return count
}

// tellStranded says which replicas would have nowhere to go.
func tellStranded(stranded []resources.Stranded) string {
	var all []string
	for _, s := range stranded {
		all = append(all, fmt.Sprintf("%s: %s", s.Replica, s.Reason))
	}
	return fmt.Sprintf("%d replicas of this node would have nowhere to go: %s", len(all), strings.Join(all, "; "))
}

// leaveServers takes this node out of the control plane, and returns when the
// others do without it and it has stopped here.
func (a *Agent) leaveServers(ctx context.Context, id resources.NodeID) error {
	if err := a.Server.LeaveServers(ctx, id); err != nil {
		return err
	}
	waiting := ""
	err := a.Server.WatchCluster(ctx, func(s resources.ClusterStatus) (bool, error) {
		waiting = s.Waiting
		return slices.Contains(s.Members, id), nil
	})
	if err != nil {
		return fmt.Errorf("wait until the other servers do without node %s: %w; %s", id, err, waiting)
	}
	// The control plane stops as follow hears of it, which may be a moment later.
	for {
		changed := a.change()
		if a.member().Server == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the control plane has stopped here: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}

// member is the cluster that the node is in, or zero.
func (a *Agent) member() resources.ClusterConfig {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cluster
}

func (a *Agent) name() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node.Name
}

// follow takes what the control plane says of itself: where it is, and whether
// this node takes part in it. It may take long, and is done beside the rest.
func (a *Agent) follow(ctx context.Context, said resources.Assignment) error {
	a.membership.Lock()
	defer a.membership.Unlock()
	there := a.member()
	if there.ID == "" {
		return nil
	}
	next := there
	next.Servers, next.Server = said.Servers, there.Server
	switch {
	case said.Server != nil && there.Server == nil:
		a.Log.Info("this node becomes a server", "cluster", there.Name)
		// The present certificate is a worker's.
		if err := a.renew(ctx); err != nil {
			return err
		}
		next.Server = said.Server
	case said.Server == nil && there.Server != nil:
		a.Log.Info("this node is a server no more", "cluster", there.Name)
		next.Server = nil
		if err := a.ControlPlane.Stop(ctx); err != nil {
			return fmt.Errorf("stop the control plane: %w", err)
		}
		if err := a.renew(ctx); err != nil {
			return err
		}
	case slices.Equal(said.Servers, there.Servers):
		return nil
	}
	return a.enter(ctx, next)
}

// renew asks the control plane for a new certificate.
func (a *Agent) renew(ctx context.Context) error {
	request, err := a.request()
	if err != nil {
		return err
	}
	a.mu.Lock()
	id := a.node.ID
	a.mu.Unlock()
	join, err := a.Server.SignCertificate(ctx, id, request)
	if err != nil {
		return err
	}
	return a.takeCertificate(join)
}

// keepCertificate renews the node's certificate before it ends, until ctx does.
func (a *Agent) keepCertificate(ctx context.Context) {
	for ctx.Err() == nil {
		changed := a.change()
		wait := renewAgain
		if c, err := Credentials(a.Data); err == nil {
			at, err := pki.RenewAt(c.Certificate)
			if err == nil {
				wait = time.Until(at)
			}
			if err != nil || wait <= 0 {
				wait = renewAgain
				if err := a.renew(ctx); err != nil && ctx.Err() == nil {
					a.Log.Warn("the node's certificate is not renewed yet", "err", err)
				}
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			a.Log.Error("the node's credentials can't be read", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(min(max(wait, longWait), renewAgain)):
		}
	}
}

// renewAgain is how often a certificate that is due is asked for.
const renewAgain = time.Hour
