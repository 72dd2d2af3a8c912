package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// Handler serves the API, the registry under /v2/, and what this server measures
// under /metrics. All but that, its keys and the question which cluster this is goes
// to the server that leads.
func (s *Server) Handler() http.Handler {
	leader, mux := s.leaderHandler(), http.NewServeMux()
	mux.Handle("/", s.led(present(leader)))
	mux.Handle("/v2/", s.registryHandler())
	mux.HandleFunc("GET /v1/cluster", s.getCluster)
	mux.Handle("GET "+keysPath, api.Handler(s.getKeys))
	mux.Handle("PUT "+keysPath, present(api.Handler(s.putKeys)))
	mux.Handle("GET /metrics", metrics.Handler(s.measures.registry))
	return s.measures.counted(func(r *http.Request) string {
		_, pattern := mux.Handler(r)
		if pattern == "/" {
			_, pattern = leader.Handler(r)
		}
		return cmp.Or(pattern, "none")
	}, mux)
}

func (s *Server) leaderHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", s.watchCluster)
	mux.HandleFunc("GET /v1/snapshot", s.getSnapshot)
	mux.Handle("GET /v1/cluster/registries", api.Handler(s.getRegistries))
	mux.Handle("PUT /v1/cluster/registries", api.Handler(s.putRegistries))
	mux.Handle("GET /v1/cluster/keys", api.Handler(s.getKeys))
	mux.Handle("POST /v1/cluster/keys/rotation", api.Handler(s.rotateKey))
	mux.Handle("PUT /v1/cluster/servers", api.Handler(s.putServers))
	mux.Handle("POST /v1/nodes/{id}/certificate", api.Handler(s.signCertificate))
	mux.Handle("PUT /v1/nodes/{id}/availability", api.Handler(s.putAvailability))
	mux.Handle("GET /v1/nodes/{id}/stranded", s.led(api.Handler(s.stranded)))
	mux.Handle("DELETE /v1/nodes/{id}/server", api.Handler(s.leaveServers))
	mux.HandleFunc("GET /v1/nodes/{id}", s.getNode)
	mux.Handle("GET /v1/nodes", api.Handler(s.listNodes))
	mux.Handle("PUT /v1/nodes/{id}", api.Handler(s.putNode))
	mux.Handle("DELETE /v1/nodes/{id}", api.Handler(s.deleteNode))
	mux.HandleFunc("GET /v1/nodes/{id}/assignment", s.getAssignment)
	mux.Handle("PUT /v1/nodes/{id}/status", api.Handler(s.putStatus))
	mux.Handle("POST /v1/nodes/{id}/pulse", api.Handler(s.postPulse))
	mux.Handle("PUT /v1/nodes/{id}/samples", api.Handler(s.putSamples))
	mux.HandleFunc("GET /v1/nodes/{id}/network", s.getNetworkMap)
	mux.Handle("GET /v1/networks", api.Handler(s.listNetworks))
	mux.HandleFunc("GET /v1/networks/{name}", s.getNetwork)
	mux.Handle("PUT /v1/networks/{name}", api.Handler(s.putNetwork))
	mux.Handle("DELETE /v1/networks/{name}", api.Handler(s.deleteNetwork))
	mux.Handle("GET /v1/volumes", api.Handler(s.listVolumes))
	mux.HandleFunc("GET /v1/volumes/{name}", s.getVolume)
	mux.Handle("PUT /v1/volumes/{name}", api.Handler(s.putVolume))
	mux.Handle("POST /v1/volumes/{name}/adoption", api.Handler(s.adoptVolume))
	mux.Handle("DELETE /v1/volumes/{name}", api.Handler(s.deleteVolume))
	mux.HandleFunc("POST /v1/volumes/{name}/backup", s.askVolume)
	mux.Handle("GET /v1/secrets", api.Handler(s.listSecrets))
	mux.HandleFunc("GET /v1/secrets/{name}", s.getSecret)
	mux.Handle("PUT /v1/secrets/{name}", api.Handler(s.putSecret))
	mux.Handle("DELETE /v1/secrets/{name}", api.Handler(s.deleteSecret))
	mux.Handle("GET /v1/configs", api.Handler(s.listConfigs))
	mux.HandleFunc("GET /v1/configs/{name}", s.getConfig)
	mux.Handle("PUT /v1/configs/{name}", api.Handler(s.putConfig))
	mux.Handle("DELETE /v1/configs/{name}", api.Handler(s.deleteConfig))
	mux.HandleFunc("POST /v1/volumes/{name}/restore", s.askVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/read", s.askVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/write", s.askVolume)
	mux.Handle("DELETE /v1/nodes/{id}/volumes/{name}", api.Handler(s.volumeRemoved))
	mux.Handle("GET /v1/services", api.Handler(s.listServices))
	mux.HandleFunc("GET /v1/services/{name}", s.getService)
	mux.Handle("PUT /v1/services/{name}", api.Handler(s.putService))
	mux.Handle("GET /v1/services/{name}/autoscale", api.Handler(s.explainScaling))
	mux.Handle("DELETE /v1/services/{name}", api.Handler(s.deleteService))
	mux.HandleFunc("POST /v1/replicas/{id}/logs", s.askReplica)
	mux.HandleFunc("POST /v1/replicas/{id}/exec", s.askReplica)
	mux.HandleFunc("GET /v1/events", s.getEvents)
	mux.Handle("POST /v1/rebalance", api.Handler(s.rebalance))
	mux.Handle("GET /v1/images/{name...}", api.Handler(s.getImage))
	mux.Handle("DELETE /v1/images/{name...}", api.Handler(s.deleteImage))
	return mux
}

// present serves calls whose callers are still there; see api.Expect.
func present(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := api.Await(r); err != nil {
			api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// update commits what change makes of the present state, again where the state
// has changed meanwhile. Only the leader does.
func (s *Server) update(ctx context.Context, change func(*store.State) ([]store.Change, error)) error {
	for {
		state, err := s.Store.Load(ctx)
		if err != nil {
			return err
		}
		changes, err := change(state)
		if err != nil || len(changes) == 0 {
			return err
		}
		if err := s.measures.committed("api", s.leadership.commit(ctx, state, changes)); !errors.Is(err, store.ErrStale) {
			return err
		}
	}
}

// relate is update for what is compared with other things than it writes. It plans
// once before it keeps others from that, since an image's registry may be asked.
func (s *Server) relate(ctx context.Context, change func(*store.State) ([]store.Change, error)) error {
	state, err := s.Store.Load(ctx)
	if err == nil {
		_, err = change(state)
	}
	if err != nil {
		return err
	}
	s.relations.Lock()
	defer s.relations.Unlock()
	return s.update(ctx, change)
}

// look returns a view that shows whatever was written before.
func (s *Server) look(ctx context.Context) (*view, error) {
	state, err := s.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	return s.reports.view(state, time.Now()), nil
}

// watch answers with one value of the view, or with each.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, find func(*view) any) {
	if api.Wanted(r) {
		state, err := s.Store.Load(r.Context())
		if err == nil {
			s.board.put(state, time.Now())
			api.Watch(w, r, func() (any, <-chan struct{}) {
				v, changed := s.board.get()
				return find(v), changed
			})
			return
		}
	}
	api.Handler(func(r *http.Request) (any, error) {
		v, err := s.look(r.Context())
		if err != nil {
			return nil, err
		}
		value := find(v)
		switch value {
		case nil:
			return nil, api.Errorf(http.StatusNotFound, "%s is not there", r.URL.Path)
		case api.NotYet:
			return nil, api.Errorf(http.StatusServiceUnavailable, "the leader has not heard of all nodes yet: try again in a few seconds")
		}
		return value, nil
	}).ServeHTTP(w, r)
}

func (s *Server) listNodes(r *http.Request) (any, error) {
	v, err := s.look(r.Context())
	if err != nil {
		return nil, err
	}
	all := []resources.NodeStatus{}
	for _, id := range slices.Sorted(maps.Keys(v.state.Nodes)) {
		all = append(all, v.node(id))
	}
	return all, nil
}

func (v *view) node(id resources.NodeID) resources.NodeStatus {
	status := resources.NodeStatus{NodeInfo: v.state.Nodes[id], Ready: v.ready[id]}
	for _, r := range v.state.ReplicasOn(id) {
		status.Replicas++
		status.Reserved.CPU += r.Template.Resources.CPU
		status.Reserved.Memory += r.Template.Resources.Memory
	}
	return status
}

func (s *Server) getNode(w http.ResponseWriter, r *http.Request) {
	id := resources.NodeID(r.PathValue("id"))
	s.watch(w, r, func(v *view) any {
		if !hasNode(v.state, id) {
			return nil
		}
		return v.node(id)
	})
}

func (s *Server) putNode(r *http.Request) (any, error) {
	node, err := api.Body[resources.NodeInfo](r)
	if err != nil {
		return nil, err
	}
	if string(node.ID) != r.PathValue("id") || node.ID == "" {
		return nil, api.Errorf(http.StatusBadRequest, "the node says that it is %q", node.ID)
	}
	joined := false
	var before []resources.NodeCondition
	err = s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		if !slices.Contains(state.Cluster.Nodes, node.ID) {
			return nil, api.Errorf(http.StatusForbidden, "node %s is not one of the cluster: it was removed, or never let in", node.Name)
		}
		old, found := state.Nodes[node.ID]
		joined, before = !found, old.Conditions
		node.Availability = old.Availability
		if found && same(old, node) {
			return nil, nil
		}
		changes := []store.Change{store.PutNode(node)}
		if record := state.Cluster; joined && slices.Contains(record.Away, node.ID) {
			record.Away = slices.DeleteFunc(slices.Clone(record.Away), func(id resources.NodeID) bool { return id == node.ID })
			changes = append(changes, store.PutCluster(record))
		}
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	if joined {
		s.events.add("node/"+node.Name, "Joined", "the node joined the cluster", time.Now())
	}
	for _, e := range conditionEvents(node.Name, before, node.Conditions) {
		s.events.add(e.Object, e.Reason, e.Message, time.Now())
	}
	return nil, nil
}

func (s *Server) deleteNode(r *http.Request) (any, error) {
	id := resources.NodeID(r.PathValue("id"))
	// A node that may come back stays one of the cluster.
	returns := r.URL.Query().Has("returns")
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		changes := []store.Change{store.DeleteNode(id)}
		if returns || !slices.Contains(state.Cluster.Nodes, id) {
			return changes, nil
		}
		if slices.Contains(state.Cluster.Servers, id) {
			return nil, api.Errorf(http.StatusConflict, "node %s is a server of the cluster: take it out of the servers first", id)
		}
		record := state.Cluster
		record.Nodes = slices.DeleteFunc(slices.Clone(record.Nodes), func(n resources.NodeID) bool { return n == id })
		return append(changes, store.PutCluster(record)), nil
	})
	if err == nil {
		s.reports.forget(id)
	}
	return nil, err
}

func (s *Server) getAssignment(w http.ResponseWriter, r *http.Request) {
	id := resources.NodeID(r.PathValue("id"))
	s.watch(w, r, func(v *view) any {
		// An agent that is not registered yet has nothing to do, and nothing
		// to clean up either.
		if !hasNode(v.state, id) {
			return nil
		}
		a := assignment(v, id)
		contents, err := s.contentsFor(v, id, a)
		if err != nil {
			s.Log.Error("the assignment of a node can't be told", "node", id, "err", err)
			return api.NotYet
		}
		a.Contents = contents
		return a
	})
}

func (s *Server) putStatus(r *http.Request) (any, error) {
	statuses, err := api.Body[[]resources.ReplicaStatus](r)
	if err != nil {
		return nil, err
	}
	id := resources.NodeID(r.PathValue("id"))
	if err := s.checkMember(r.Context(), id); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, status := range s.reports.put(id, statuses, now) {
		s.events.add("replica/"+string(status.ID), string(status.Reason), status.Message, now)
	}
	s.applied(id, api.Applied(r), now)
	return nil, nil
}

func (s *Server) postPulse(r *http.Request) (any, error) {
	s.reports.pulse(resources.NodeID(r.PathValue("id")), time.Now())
	return nil, nil
}

// checkMember refuses a node that is not registered, which makes its agent
// register it. The board saves a look into the store for each heartbeat.
func (s *Server) checkMember(ctx context.Context, id resources.NodeID) error {
	if v, _ := s.board.get(); hasNode(v.state, id) {
		return nil
	}
	state, err := s.Store.Load(ctx)
	if err == nil && !hasNode(state, id) {
		err = api.Errorf(http.StatusNotFound, "node %s is not in the cluster", id)
	}
	return err
}

func hasNode(state *store.State, id resources.NodeID) bool {
	_, found := state.Nodes[id]
	return found
}

func (s *Server) listServices(r *http.Request) (any, error) {
	v, err := s.look(r.Context())
	if err != nil {
		return nil, err
	}
	all := []resources.ServiceStatus{}
	for _, name := range slices.Sorted(maps.Keys(v.state.Services)) {
		all = append(all, v.status(v.state.Services[name]))
	}
	return all, nil
}

func (s *Server) getService(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.watch(w, r, func(v *view) any {
		service, found := v.state.Services[name]
		if !found {
			return nil
		}
		return v.status(service)
	})
}

func (s *Server) putService(r *http.Request) (any, error) {
	service, err := api.Body[resources.Service](r)
	if err != nil {
		return nil, err
	}
	service.SetDefaults()
	problems := service.Validate()
	if service.Name != r.PathValue("name") {
		problems.Addf("name", "is %q, and the call names %q", service.Name, r.PathValue("name"))
	}
	if len(problems) > 0 {
		return nil, api.Invalid(problems)
	}
	password := ""
	if auth := service.RegistryAuth; auth != nil {
		password, auth.Password = auth.Password, ""
	}
	var written resources.ServiceRecord
	resolve := s.resolveOnce(r.Context(), service, password)
	revised := false
	plan := func(state *store.State, key string) ([]store.Change, error) {
		if err := errors.Join(checkAffinities(state, service), checkSpread(state, service), checkNetworks(state, service), checkPorts(state, service), checkVolumes(state, service), checkContents(state, service)); err != nil {
			return nil, err
		}
		old, found := state.Services[service.Name]
		written, revised = old, false
		if !found || old.Deleting || !same(old.Service, service) {
			if written, err = revise(old, service, contentsOf(state, service), func() (string, error) { return resolve(state) }); err != nil {
				return nil, err
			}
			written.Stable = goneBackTo(state, written)
			written.Scaled = s.scaledFor(state, old, service)
			revised = written.Revision != old.Revision
		}
		changes, err := s.putLogin(state, key, &old, &written, password)
		if err != nil || found && same(old, written) {
			return changes, err
		}
		return append(changes, store.PutService(written)), nil
	}
	if err := s.withKey(r.Context(), password != "", plan); err != nil {
		return nil, err
	}
	if revised {
		s.events.add("service/"+service.Name, "Revised", strings.TrimSpace("a new revision runs "+service.Image+" "+written.ImageDigest), time.Now())
	}
	v, err := s.look(r.Context())
	if err != nil {
		return nil, err
	}
	return v.status(written), nil
}

// checkAffinities refuses a service that closes a cycle of affinities.
func checkAffinities(state *store.State, service resources.Service) error {
	all := []resources.Service{service}
	for name, other := range state.Services {
		if name != service.Name && !other.Deleting {
			all = append(all, other.Service)
		}
	}
	cycle := resources.AffinityCycle(all)
	if !slices.Contains(cycle, service.Name) {
		return nil
	}
	var p resources.Problems
	p.Addf("placement.affinity", "closes a cycle: %s; each would follow the next one, so remove one affinity", strings.Join(append(cycle, cycle[0]), " -> "))
	return api.Invalid(p)
}

// checkSpread refuses a spread over a label that no node has: it would do
// nothing, and nobody would hear of it.
func checkSpread(state *store.State, service resources.Service) error {
	if service.Placement == nil || len(state.Nodes) == 0 {
		return nil
	}
	known := map[string]bool{}
	for _, node := range state.Nodes {
		for key := range node.Labels {
			known[key] = true
		}
	}
	var p resources.Problems
	for i, key := range service.Placement.Spread {
		if !known[key] {
			p.Addf(fmt.Sprintf("placement.spread[%d]", i), "no node has a label %q; there are: %s", key,
				cmp.Or(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "none"))
		}
	}
	if len(p) == 0 {
		return nil
	}
	return api.Invalid(p)
}

// revise gives the record of the service as it is wanted now. A changed
// template is a new revision, whose image is resolved, with the present contents of
// its secrets and configs.
func revise(old resources.ServiceRecord, service resources.Service, contents resources.ContentNumbers, resolve func() (string, error)) (resources.ServiceRecord, error) {
	next := old
	next.Service, next.Deleting = service, false
	if old.Revision > 0 && same(old.Service.Template, service.Template) {
		return next, nil
	}
	digest, err := resolve()
	if err != nil {
		return next, err
	}
	next.Revision, next.ImageDigest, next.Contents, next.Rollout = old.Revision+1, digest, contents, resources.Rollout{}
	return next, nil
}

// same is true where two values are stored alike: an empty list that is there
// and one that is absent are.
func same[T any](a, b T) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (s *Server) deleteService(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return nil, s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		service, found := state.Services[name]
		if !found || service.Deleting {
			return nil, nil
		}
		service.Deleting = true
		return []store.Change{store.PutService(service)}, nil
	})
}

func (s *Server) getImage(r *http.Request) (any, error) {
	name, digest := r.PathValue("name"), r.URL.Query().Get("digest")
	if err := s.fetch(r.Context(), resources.ImageRecord{Name: name, Digest: digest}); err != nil {
		s.Log.Info("an image is not here, and not fetched either", "err", err)
	}
	found, err := s.Images.Has(r.Context(), name, digest)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, api.Errorf(http.StatusNotFound, "the cluster's registry has no %s", resources.ImageReference(name, digest))
	}
	return map[string]string{"name": name, "digest": digest}, nil
}

func (s *Server) deleteImage(r *http.Request) (any, error) {
	image := resources.ImageRecord{Name: r.PathValue("name"), Digest: r.URL.Query().Get("digest")}
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		if _, found := state.Images[image.Key()]; !found {
			return nil, nil
		}
		return []store.Change{store.DeleteImage(image)}, nil
	})
	if err != nil {
		return nil, err
	}
	return nil, s.Images.Delete(r.Context(), image.Name, image.Digest)
}
