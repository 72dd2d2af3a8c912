package server

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func (s *Server) getRegistries(r *http.Request) (any, error) {
	state, err := s.Store.Load(r.Context())
	if err != nil {
		return nil, err
	}
	all := map[string]resources.RegistryAccess{}
	for host, record := range state.Registries {
		all[host] = record.Access
	}
	return all, nil
}

// putRegistries says how all registries are reached. A password that is left out
// stays as it is.
func (s *Server) putRegistries(r *http.Request) (any, error) {
	wanted, err := api.Body[map[string]resources.RegistryAccess](r)
	if err != nil {
		return nil, err
	}
	var problems resources.Problems
	for host, access := range wanted {
		if at := fmt.Sprintf("registries[%q].password", host); access.Password != "" && access.Username == "" {
			problems.Addf(at, "is given without a username")
		}
	}
	if len(problems) > 0 {
		return nil, api.Invalid(problems)
	}
	seals := slices.ContainsFunc(slices.Collect(maps.Values(wanted)), func(a resources.RegistryAccess) bool { return a.Password != "" })
	return nil, s.withKey(r.Context(), seals, func(state *store.State, key string) ([]store.Change, error) {
		var changes []store.Change
		for _, host := range slices.Sorted(maps.Keys(wanted)) {
			access, old := wanted[host], state.Registries[host]
			password := access.Password
			access.Password = ""
			next := resources.RegistryRecord{Host: host, Access: access, Number: old.Number}
			more, err := s.password(state, key, resources.RegistryContent(host), &next.Number, access.Username, old.Access.Username, password)
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
			if !same(old, next) {
				changes = append(changes, store.PutRegistry(next))
			}
		}
		for _, host := range slices.Sorted(maps.Keys(state.Registries)) {
			if _, stays := wanted[host]; !stays {
				changes = append(changes, store.DeleteRegistry(host))
			}
		}
		return changes, nil
	})
}

// password seals the password of a user. One that is left out is that from before,
// of the same user.
func (s *Server) password(state *store.State, key, content string, number *int, user, before, password string) ([]store.Change, error) {
	switch {
	case password != "":
		return s.seal(state, key, content, number, []byte(password))
	case user != before:
		*number = 0
	}
	return nil, nil
}

// putLogin takes the password out of a service's registry_auth, and seals it.
func (s *Server) putLogin(state *store.State, key string, old, next *resources.ServiceRecord, password string) ([]store.Change, error) {
	auth := next.Service.RegistryAuth
	if auth == nil {
		next.Login = 0
		return nil, nil
	}
	before := ""
	if old.Service.RegistryAuth != nil {
		before = old.Service.RegistryAuth.Username
	}
	next.Login = old.Login
	changes, err := s.password(state, key, resources.LoginContent(next.Service.Name), &next.Login, auth.Username, before, password)
	if err == nil && next.Login == 0 {
		var p resources.Problems
		p.Addf("registry_auth.password", "is missing, and there is none of user %q from before", auth.Username)
		err = api.Invalid(p)
	}
	return changes, err
}

// Access is how a registry is reached.
type Access struct {
	Mirrors            []string
	Insecure           bool
	Username, Password string
}

// access gives how registries are reached for a service, by host.
func (s *Server) access(state *store.State, service resources.Service, password string) (map[string]Access, error) {
	all := map[string]Access{}
	for host, record := range state.Registries {
		a := Access{Mirrors: record.Access.Mirrors, Insecure: record.Access.Insecure}
		if record.Number > 0 {
			value, err := s.Keys.Open(state.Contents[resources.ContentVersion(resources.RegistryContent(host), record.Number)])
			if err != nil {
				return nil, err
			}
			a.Username, a.Password = record.Access.Username, string(value)
		}
		all[host] = a
	}
	if service.RegistryAuth == nil {
		return all, nil
	}
	if login := state.Services[service.Name].Login; password == "" && login > 0 {
		value, err := s.Keys.Open(state.Contents[resources.ContentVersion(resources.LoginContent(service.Name), login)])
		if err != nil {
			return nil, err
		}
		password = string(value)
	}
	host := resources.ImageHost(service.Image)
	own := all[host]
	own.Username, own.Password = service.RegistryAuth.Username, password
	all[host] = own
	return all, nil
}

// registriesFor gives a node how registries are reached: passwords of those that it
// pulls from.
func registriesFor(state *store.State, id resources.NodeID) (registries []resources.AssignedRegistry, logins []resources.AssignedLogin) {
	if len(state.Contents) == 0 && len(state.Registries) == 0 {
		return nil, nil
	}
	pulled, services := map[string]bool{}, map[string]bool{}
	for _, r := range state.ReplicasOn(id) {
		host := resources.ImageHost(r.Template.Image)
		pulled[host], services[r.Service] = true, true
		for _, mirror := range state.Registries[host].Access.Mirrors {
			pulled[resources.MirrorHost(mirror)] = true
		}
	}
	for _, host := range slices.Sorted(maps.Keys(state.Registries)) {
		record := state.Registries[host]
		a := resources.AssignedRegistry{Host: host, Mirrors: record.Access.Mirrors, Insecure: record.Access.Insecure}
		if pulled[host] && record.Number > 0 {
			a.Username, a.Password = record.Access.Username, resources.ContentVersion(resources.RegistryContent(host), record.Number)
		}
		registries = append(registries, a)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if record := state.Services[name]; record.Login > 0 && record.Service.RegistryAuth != nil {
			logins = append(logins, resources.AssignedLogin{
				Service: name, Username: record.Service.RegistryAuth.Username, Password: resources.ContentVersion(resources.LoginContent(name), record.Login),
			})
		}
	}
	return registries, logins
}
