package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/metrics"
	"github.com/skerry-io/skerry/controlplane/store"
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
	mux.Handle("GET /v1/nodes/{id}/stranded", api.Handler(s.stranded))
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
	mux.Handle("GET /v1/networks", list(s, networksOf, networkStatus))
	mux.Handle("GET /v1/networks/{name}", get(s, networksOf, networkStatus))
	mux.Handle("PUT /v1/networks/{name}", api.Handler(s.putNetwork))
	mux.Handle("DELETE /v1/networks/{name}", api.Handler(s.deleteNetwork))
	mux.Handle("GET /v1/volumes", list(s, volumesOf, volumeStatus))
	mux.Handle("GET /v1/volumes/{name}", get(s, volumesOf, volumeStatus))
	mux.Handle("PUT /v1/volumes/{name}", api.Handler(s.putVolume))
	mux.Handle("POST /v1/volumes/{name}/adoption", api.Handler(s.adoptVolume))
	mux.Handle("DELETE /v1/volumes/{name}", api.Handler(s.deleteVolume))
	mux.HandleFunc("POST /v1/volumes/{name}/backup", s.askVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/restore", s.askVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/read", s.askVolume)
	mux.HandleFunc("POST /v1/volumes/{name}/write", s.askVolume)
	mux.Handle("DELETE /v1/nodes/{id}/volumes/{name}", api.Handler(s.volumeRemoved))
	mux.Handle("GET /v1/secrets", list(s, secretsOf, secretStatus))
	mux.Handle("GET /v1/secrets/{name}", get(s, secretsOf, secretStatus))
	mux.Handle("PUT /v1/secrets/{name}", api.Handler(s.putSecret))
	mux.Handle("DELETE /v1/secrets/{name}", api.Handler(s.deleteSecret))
	mux.Handle("GET /v1/configs", list(s, configsOf, configStatus))
	mux.HandleFunc("GET /v1/configs/{name}", s.getConfig)
	mux.Handle("PUT /v1/configs/{name}", api.Handler(s.putConfig))
	mux.Handle("DELETE /v1/configs/{name}", api.Handler(s.deleteConfig))
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
