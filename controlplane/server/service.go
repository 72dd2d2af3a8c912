package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

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
	service, err := body(r, func(x *resources.Service) string { return x.Name })
	if err != nil {
		return nil, err
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
