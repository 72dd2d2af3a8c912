package server

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func secretStatus(state *store.State, name string) resources.SecretStatus {
	record := state.Secrets[name]
	return resources.SecretStatus{Secret: record.Secret, Services: revisionsWith(state, resources.SecretContent(name))}
}

func (s *Server) putSecret(r *http.Request) (any, error) {
	secret, err := body(r, func(x *resources.Secret) string { return x.Name })
	if err != nil {
		return nil, err
	}
	value := []byte(secret.Value)
	secret.Value = ""
	var state *store.State
	var revised []string
	err = s.sealing(r.Context(), func(now *store.State, key string) ([]store.Change, error) {
		old, found := now.Secrets[secret.Name]
		next := resources.SecretRecord{Secret: secret, Number: old.Number}
		changes, err := s.renew(now, key, resources.SecretContent(secret.Name), &next.Number, value, &revised)
		if err != nil {
			return nil, err
		}
		if !found || !same(old, next) {
			changes = append(changes, store.PutSecret(next))
		}
		state = now.With(changes...)
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	s.tellRevised(revised, "secret "+secret.Name)
	return secretStatus(state, secret.Name), nil
}

func (s *Server) deleteSecret(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return nil, s.relate(r.Context(), func(state *store.State) ([]store.Change, error) {
		if _, found := state.Secrets[name]; !found {
			return nil, nil
		}
		if err := unused(state, "secret", name, resources.SecretContent(name)); err != nil {
			return nil, err
		}
		return []store.Change{store.DeleteSecret(name)}, nil
	})
}

func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.watch(w, r, func(v *view) any {
		record, found := v.state.Configs[name]
		if !found {
			return nil
		}
		status := configStatus(v.state, name)
		content, err := s.Keys.Open(v.state.Contents[resources.ContentVersion(resources.ConfigContent(name), record.Number)])
		if err != nil {
			return api.NotYet
		}
		status.Content = content
		return status
	})
}

func configStatus(state *store.State, name string) resources.ConfigStatus {
	record := state.Configs[name]
	return resources.ConfigStatus{Config: record.Config, SHA256: record.SHA256, Size: record.Size, Services: revisionsWith(state, resources.ConfigContent(name))}
}

func (s *Server) putConfig(r *http.Request) (any, error) {
	config, err := body(r, func(x *resources.ConfigFile) string { return x.Name })
	if err != nil {
		return nil, err
	}
	var state *store.State
	var revised []string
	err = s.sealing(r.Context(), func(now *store.State, key string) ([]store.Change, error) {
		old, found := now.Configs[config.Name]
		next := resources.ConfigRecord{
			Config: config.Config, Number: old.Number, SHA256: resources.ConfigSum(config.Content), Size: resources.Bytes(len(config.Content)),
		}
		changes, err := s.renew(now, key, resources.ConfigContent(config.Name), &next.Number, config.Content, &revised)
		if err != nil {
			return nil, err
		}
		if !found || !same(old, next) {
			changes = append(changes, store.PutConfig(next))
		}
		state = now.With(changes...)
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	s.tellRevised(revised, "config "+config.Name)
	return configStatus(state, config.Name), nil
}

func (s *Server) deleteConfig(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return nil, s.relate(r.Context(), func(state *store.State) ([]store.Change, error) {
		if _, found := state.Configs[name]; !found {
			return nil, nil
		}
		if err := unused(state, "config", name, resources.ConfigContent(name)); err != nil {
			return nil, err
		}
		return []store.Change{store.DeleteConfig(name)}, nil
	})
}

// seal seals a value as the next version of a content, unless it is that of the
// present version.
func (s *Server) seal(state *store.State, key, content string, number *int, value []byte) ([]store.Change, error) {
	// What is sealed with a key that is gone is no more than another value.
	if sealed := state.Contents[resources.ContentVersion(content, *number)]; s.Keys.Has(sealed.Key) {
		present, err := s.Keys.Open(sealed)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(present, value) {
			return nil, nil
		}
	}
	*number++
	sealed, err := s.Keys.Seal(key, resources.ContentVersion(content, *number), value)
	if err != nil {
		return nil, err
	}
	return []store.Change{store.PutContent(sealed)}, nil
}

// renew is seal, and makes new revisions of the services that do not run with
// it: where it was put before and they were rolled back, too.
func (s *Server) renew(state *store.State, key, content string, number *int, value []byte, revised *[]string) ([]store.Change, error) {
	*revised = nil
	changes, err := s.seal(state, key, content, number, value)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(state.Services)) {
		record := state.Services[name]
		if has, uses := record.Contents[content]; !uses || record.Deleting || has == *number {
			continue
		}
		record.Contents = maps.Clone(record.Contents)
		record.Contents[content] = *number
		record.Revision, record.Rollout = record.Revision+1, resources.Rollout{}
		changes = append(changes, store.PutService(record))
		*revised = append(*revised, name)
	}
	return changes, nil
}

func (s *Server) tellRevised(services []string, because string) {
	for _, name := range services {
		s.events.add("service/"+name, "Revised", "a new revision has what is in "+because+" now", time.Now())
	}
}
