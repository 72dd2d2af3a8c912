package server

import (
	"maps"
	"net/http"
	"slices"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// validated is what a user writes.
type validated[T any] interface {
	*T
	Validate() resources.Problems
}

// body reads what is put under the name in the path, sets its defaults, where it has
// any, and refuses what is wrong with it.
func body[T any, P validated[T]](r *http.Request, name func(P) string) (T, error) {
	value, err := api.Body[T](r)
	if err != nil {
		return value, err
	}
	p := P(&value)
	if d, has := any(p).(interface{ SetDefaults() }); has {
		d.SetDefaults()
	}
	problems := p.Validate()
	if name(p) != r.PathValue("name") {
		problems.Addf("name", "is %q, and the call names %q", name(p), r.PathValue("name"))
	}
	if len(problems) > 0 {
		return value, api.Invalid(problems)
	}
	return value, nil
}

// list answers with the status of all objects of a kind, by name.
func list[V, S any](s *Server, all func(*store.State) map[string]V, status func(*store.State, string) S) http.Handler {
	return api.Handler(func(r *http.Request) (any, error) {
		state, err := s.Store.Load(r.Context())
		if err != nil {
			return nil, err
		}
		statuses := []S{}
		for _, name := range slices.Sorted(maps.Keys(all(state))) {
			statuses = append(statuses, status(state, name))
		}
		return statuses, nil
	})
}

// get answers with the status of one of them, or with each.
func get[V, S any](s *Server, all func(*store.State) map[string]V, status func(*store.State, string) S) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		s.watch(w, r, func(v *view) any {
			if _, found := all(v.state)[name]; !found {
				return nil
			}
			return status(v.state, name)
		})
	})
}

// The kinds that these answer for.
func networksOf(state *store.State) map[string]resources.NetworkRecord { return state.Networks }
func volumesOf(state *store.State) map[string]resources.VolumeRecord   { return state.Volumes }
func secretsOf(state *store.State) map[string]resources.SecretRecord   { return state.Secrets }
func configsOf(state *store.State) map[string]resources.ConfigRecord   { return state.Configs }
