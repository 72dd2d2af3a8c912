package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// checkContents refuses a service whose secrets and configs are not there.
func checkContents(state *store.State, service resources.Service) error {
	var p resources.Problems
	for i, m := range service.Secrets {
		if _, found := state.Secrets[m.Secret]; !found {
			p.Addf(fmt.Sprintf("secrets[%d].secret", i), "is %s, and the cluster has no secret of that name, but: %s; make it a skerry_secret", m.Secret, known(state.Secrets))
		}
	}
	for i, m := range service.Configs {
		if _, found := state.Configs[m.Config]; !found {
			p.Addf(fmt.Sprintf("configs[%d].config", i), "is %s, and the cluster has no config of that name, but: %s; make it a skerry_config", m.Config, known(state.Configs))
		}
	}
	if len(p) == 0 {
		return nil
	}
	return api.Invalid(p)
}

func known[V any](m map[string]V) string {
	return cmp.Or(strings.Join(slices.Sorted(maps.Keys(m)), ", "), "none")
}

// contentsOf gives the present versions of all that a service has.
func contentsOf(state *store.State, service resources.Service) resources.ContentNumbers {
	numbers := resources.ContentNumbers{}
	for _, m := range service.Secrets {
		numbers[resources.SecretContent(m.Secret)] = state.Secrets[m.Secret].Number
	}
	for _, m := range service.Configs {
		numbers[resources.ConfigContent(m.Config)] = state.Configs[m.Config].Number
	}
	if len(numbers) == 0 {
		return nil
	}
	return numbers
}

// revisionsWith gives the revisions of the services that use a content, sorted by
// service.
func revisionsWith(state *store.State, content string) []resources.ServiceRevision {
	var all []resources.ServiceRevision
	for _, name := range usersOf(state, content) {
		all = append(all, resources.ServiceRevision{Service: name, Revision: state.Services[name].Revision})
	}
	return all
}

// usersOf names the services that use a content, sorted: they do now, or would
// again by a rollback, or a replica of theirs has yet to stop.
func usersOf(state *store.State, content string) []string {
	all := map[string]bool{}
	for name, record := range state.Services {
		_, now := record.Contents[content]
		if record.Stable != nil && !now {
			_, now = record.Stable.Contents[content]
		}
		if now {
			all[name] = true
		}
	}
	for _, r := range state.Replicas.All() {
		if _, has := r.Contents[content]; has {
			all[r.Service] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// unused refuses to remove what services use.
func unused(state *store.State, kind, name, content string) error {
	if using := usersOf(state, content); len(using) > 0 {
		return api.Errorf(http.StatusConflict, "%s %s can't be removed while services use it: %s; remove them first, or take it out of their %ss", kind, name, strings.Join(using, ", "), kind)
	}
	return nil
}

// contentsFor opens what the replicas of a node need. What can't be opened, since this
// server has just begun to lead and lacks the key, or since that is gone, is left out:
// the node goes on with what it has.
func (s *Server) contentsFor(v *view, id resources.NodeID, a resources.Assignment) []resources.Content {
	if len(v.state.Contents) == 0 {
		return nil
	}
	needed := map[string]bool{}
	for _, r := range v.state.ReplicasOn(id) {
		for _, version := range r.Contents.Versions() {
			needed[version] = true
		}
	}
	for _, r := range a.Registries {
		needed[r.Password] = true
	}
	for _, l := range a.Logins {
		needed[l.Password] = true
	}
	var all []resources.Content
	for _, version := range slices.Sorted(maps.Keys(needed)) {
		sealed, found := v.state.Contents[version]
		if !found {
			continue // the node says so when it misses it
		}
		value, err := s.Keys.Open(sealed)
		if err != nil {
			s.Log.Error("a node is not told what its replicas need", "node", id, "err", err)
			continue
		}
		all = append(all, resources.Content{Version: version, Value: value})
	}
	return all
}

// prune removes the versions that nobody has any more, nor would by a rollback.
func (d *decision) prune() {
	unneeded := maps.Clone(d.state.Contents)
	need := func(n resources.ContentNumbers) {
		for _, version := range n.Versions() {
			delete(unneeded, version)
		}
	}
	for name, record := range d.state.Secrets {
		delete(unneeded, resources.ContentVersion(resources.SecretContent(name), record.Number))
	}
	for name, record := range d.state.Configs {
		delete(unneeded, resources.ContentVersion(resources.ConfigContent(name), record.Number))
	}
	for host, record := range d.state.Registries {
		delete(unneeded, resources.ContentVersion(resources.RegistryContent(host), record.Number))
	}
	for name, record := range d.state.Services {
		delete(unneeded, resources.ContentVersion(resources.LoginContent(name), record.Login))
		need(record.Contents)
		if record.Stable != nil {
			need(record.Stable.Contents)
		}
	}
	// There are many replicas, and only those of a rollout have others than their service.
	if len(unneeded) == 0 {
		return
	}
	for _, r := range d.state.Replicas.All() {
		need(r.Contents)
	}
	for _, version := range slices.Sorted(maps.Keys(unneeded)) {
		d.change(store.DeleteContent(version))
	}
}
