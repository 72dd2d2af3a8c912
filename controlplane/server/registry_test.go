package server

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/resources"
)

// guardedRegistry is a registry that asks for the password of the user me. It
// returns its host, and how often it was asked for a manifest with that.
func guardedRegistry(t *testing.T, password string, images ...string) (host string, asked *int) {
	t.Helper()
	asked = new(int)
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, given, _ := r.BasicAuth(); user != "me" || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/") {
			*asked++
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	host = web.Listener.Addr().String()
	for _, image := range images {
		ref, err := name.ParseReference(host + "/" + image)
		if err == nil {
			err = remote.Write(ref, empty.Image, remote.WithAuth(&authn.Basic{Username: "me", Password: password}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	*asked = 0
	return host, asked
}

func TestResolveRemote(t *testing.T) {
	want, err := empty.Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	origin, atOrigin := guardedRegistry(t, "one", "team/web:1", "team/only:1")
	mirror, atMirror := guardedRegistry(t, "two", "copy/team/web:1")
	in := func(mirrors ...string) map[string]Access {
		return map[string]Access{
			origin: {Username: "me", Password: "one", Mirrors: mirrors},
			mirror: {Username: "me", Password: "two", Insecure: true},
		}
	}
	for title, c := range map[string]struct {
		image              string
		registries         map[string]Access
		atOrigin, atMirror int
		refusals           []string
	}{
		"with the password":   {"/team/web:1", in(), 1, 0, nil},
		"without one":         {"/team/web:1", nil, 0, 0, []string{"401"}},
		"a mirror is first":   {"/team/web:1", in(mirror + "/copy"), 0, 1, nil},
		"the mirror lacks it": {"/team/only:1", in(mirror + "/copy"), 1, 1, nil},
		"a mirror is down":    {"/team/web:1", in("127.0.0.1:1"), 1, 0, nil},
		"nobody has it":       {"/team/none:1", in(mirror), 1, 1, []string{origin, mirror}},
	} {
		*atOrigin, *atMirror = 0, 0
		digest, err := ResolveRemote(t.Context(), origin+c.image, c.registries)
		if (err == nil) != (c.refusals == nil) || err == nil && digest != want.String() {
			t.Errorf("%s: %q, %v", title, digest, err)
		}
		for _, refusal := range c.refusals {
			if err != nil && !strings.Contains(err.Error(), refusal) {
				t.Errorf("%s: %v does not say %q", title, err, refusal)
			}
		}
		if *atOrigin != c.atOrigin || *atMirror != c.atMirror {
			t.Errorf("%s: asked %d times at the origin and %d at the mirror", title, *atOrigin, *atMirror)
		}
	}
}

// Passwords go to the nodes that pull with them, and nowhere else.
func TestPasswordsOfRegistries(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s}
		a.join(t, "n1", "n2")
		registries := map[string]resources.RegistryAccess{
			"docker.io": {Mirrors: []string{"mirror.lan:5000"}}, "mirror.lan:5000": {Insecure: true, Username: "me", Password: "mirror-word"},
			"other.lan": {Username: "me", Password: "other-word"},
		}
		ask[any](t, s, http.MethodPut, "/v1/cluster/registries", registries)
		service := web(1)
		service.Placement = &resources.Placement{Constraints: []string{"node.id == n2"}}
		service.RegistryAuth = &resources.RegistryAuth{Username: "puller", Password: "own-word"}
		if status := a.put(t, service); status.Service.RegistryAuth.Password != "" {
			t.Errorf("the service tells its password: %+v", status.Service.RegistryAuth)
		}
		a.live(t, 10*time.Second)
		settings := []resources.AssignedRegistry{
			{Host: "docker.io", Mirrors: []string{"mirror.lan:5000"}}, {Host: "mirror.lan:5000", Insecure: true}, {Host: "other.lan"},
		}
		first := ask[resources.Assignment](t, s, http.MethodGet, "/v1/nodes/n1/assignment", nil)
		if diff := cmp.Diff(settings, first.Registries); diff != "" || len(first.Contents)+len(first.Logins) > 0 {
			t.Errorf("a node that pulls nothing has %v %v (-want +got):\n%s", first.Contents, first.Logins, diff)
		}
		settings[1].Username, settings[1].Password = "me", "registry/mirror.lan:5000/1"
		second := ask[resources.Assignment](t, s, http.MethodGet, "/v1/nodes/n2/assignment", nil)
		if diff := cmp.Diff(settings, second.Registries); diff != "" {
			t.Errorf("the registries (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]resources.AssignedLogin{{Service: "web", Username: "puller", Password: "login/web/1"}}, second.Logins); diff != "" {
			t.Errorf("the logins (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"registry/mirror.lan:5000/1": "mirror-word", "login/web/1": "own-word"}, a.contents(t, "n2")); diff != "" {
			t.Errorf("the passwords (-want +got):\n%s", diff)
		}

		// What is put without its password keeps it, and another one replaces nothing that runs.
		before := a.web(t)
		service.RegistryAuth.Password, service.Replicas = "", 0
		a.put(t, service)
		service.RegistryAuth.Password, service.Replicas = "new-word", 1
		if after := a.put(t, service); after.Revision != before.Revision {
			t.Errorf("a new password is revision %d after %d", after.Revision, before.Revision)
		}
		a.live(t, 10*time.Second)
		if has := a.contents(t, "n2"); has["login/web/2"] != "new-word" || len(has) != 2 {
			t.Errorf("after a new password there is %v", has)
		}
		other := service
		other.RegistryAuth = &resources.RegistryAuth{Username: "somebody"}
		refused(t, tryAsk(t, s, http.MethodPut, "/v1/services/web", other), http.StatusUnprocessableEntity, `registry_auth.password: is missing, and there is none of user "somebody"`)

		state, err := s.Store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(state.Objects)
		if err != nil || strings.Contains(string(text), "-word") {
			t.Errorf("the store has %s, %v", text, err)
		}
		service.RegistryAuth = nil
		a.put(t, service)
		delete(registries, "mirror.lan:5000")
		ask[any](t, s, http.MethodPut, "/v1/cluster/registries", registries)
		a.live(t, 10*time.Second)
		if state, err = s.Store.Load(t.Context()); err != nil || len(state.Contents) != 1 || len(state.Registries) != 2 {
			t.Errorf("of what is not needed the store has %d contents and %d registries, %v", len(state.Contents), len(state.Registries), err)
		}
	})
}
