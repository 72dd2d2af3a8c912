package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// guarded is a service of one replica that has the secret db, and the config
// settings.
func guarded(name string) resources.Service {
	s := web(1)
	s.Name = name
	s.Secrets = []resources.SecretMount{{Secret: "db"}}
	s.Configs = []resources.ConfigMount{{Config: "settings"}}
	return s
}

// keep puts the secret db and the config settings.
func (c *cluster) keep(t *testing.T, value string, version int, content string) (resources.SecretStatus, resources.ConfigStatus) {
	t.Helper()
	secret, err := c.PutSecret(t.Context(), resources.Secret{Name: "db", Value: value, Version: version})
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.PutConfig(t.Context(), resources.ConfigFile{Config: resources.Config{Name: "settings"}, Content: []byte(content)})
	if err != nil {
		t.Fatal(err)
	}
	return secret, config
}

func TestSecretsAreKeptSealed(t *testing.T) {
	kept := &store.Memory{}
	c := start(t, kept)
	ctx := t.Context()
	_, err := c.PutService(ctx, guarded("web"))
	refused(t, err, http.StatusUnprocessableEntity, "secrets[0].secret: is db, and the cluster has no secret of that name, but: none; make it a skerry_secret", "configs[0].config")

	secret, config := c.keep(t, "pass-word", 1, "a = 1")
	if diff := cmp.Diff(resources.SecretStatus{Secret: resources.Secret{Name: "db", Version: 1}}, secret); diff != "" {
		t.Errorf("the secret (-want +got):\n%s", diff)
	}
	if config.Size != 5 || config.SHA256 != resources.ConfigSum([]byte("a = 1")) {
		t.Errorf("the config: %+v", config)
	}
	if read, err := c.Config(ctx, "settings"); err != nil || string(read.Content) != "a = 1" {
		t.Errorf("the config reads %+v, %v", read, err)
	}
	state, err := kept.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal([]any{state.Objects, state.Cluster})
	if err != nil || strings.Contains(string(text), "pass-word") || !strings.Contains(string(text), "secret/db/1") {
		t.Errorf("the store holds %s, %v", text, err)
	}
	for _, key := range c.server.Keys.Keys() {
		encoded, err := json.Marshal(key.Secret)
		if err != nil || strings.Contains(string(text), strings.Trim(string(encoded), `"`)) {
			t.Errorf("the store holds the key: %v", err)
		}
	}

	if _, err := c.PutService(ctx, guarded("web")); err != nil {
		t.Fatal(err)
	}
	refused(t, c.DeleteSecret(ctx, "db"), http.StatusConflict, "secret db can't be removed while services use it: web", "out of their secrets")
	refused(t, c.DeleteConfig(ctx, "settings"), http.StatusConflict, "config settings can't be removed", "web")
	if err := c.DeleteService(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	for _, remove := range []func(context.Context, string) error{c.DeleteSecret, c.DeleteConfig} {
		for _, name := range []string{"db", "settings", "nothing"} {
			if err := remove(ctx, name); err != nil {
				t.Errorf("delete %s: %v", name, err)
			}
		}
	}
	if _, err := c.Secret(ctx, "db"); !api.IsNotFound(err) {
		t.Errorf("after the removal: %v", err)
	}
	_, err = c.PutSecret(ctx, resources.Secret{Name: "large", Value: strings.Repeat("x", int(resources.MaxContent)+1)})
	refused(t, err, http.StatusUnprocessableEntity, "value: has 524289 bytes")
	if strings.Contains(err.Error(), "xxx") {
		t.Error("the error has the value")
	}
}

func (a *agents) contents(t *testing.T, node string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range ask[resources.Assignment](t, a.Server, http.MethodGet, "/v1/nodes/"+node+"/assignment", nil).Contents {
		all[c.Version] = string(c.Value)
	}
	return all
}

func (a *agents) putDB(t *testing.T, value string, version int) resources.SecretStatus {
	t.Helper()
	return ask[resources.SecretStatus](t, a.Server, http.MethodPut, "/v1/secrets/db", resources.Secret{Name: "db", Value: value, Version: version})
}

// A new value is a new revision. It goes to the nodes that run it, and what no
// revision needs any more is gone; a rollback has the value from before.
func TestANewValueRollsTheService(t *testing.T) {
	onAClock(t, admitting(t, "n1", "n2"), func(t *testing.T, s *Server) {
		a := &agents{Server: s, badContent: "secret/db/3"}
		a.join(t, "n1", "n2")
		a.putDB(t, "one", 1)
		service := web(1)
		service.Secrets = []resources.SecretMount{{Secret: "db"}}
		service.Placement = &resources.Placement{Constraints: []string{"node.id == n2"}}
		service.Update.OnFailure = resources.OnFailureRollback
		a.put(t, service)
		a.live(t, 10*time.Second)
		has := func(step string, revision int, want map[string]string) {
			t.Helper()
			if diff := cmp.Diff(want, a.contents(t, "n2")); diff != "" {
				t.Errorf("%s, the node has (-want +got):\n%s", step, diff)
			}
			if other := a.contents(t, "n1"); len(other) > 0 {
				t.Errorf("%s, a node that runs nothing has %v", step, other)
			}
			if now := a.web(t); now.Revision != revision || now.State != resources.ServiceRunning {
				t.Errorf("%s, the service is %+v", step, now)
			}
		}
		has("at first", 1, map[string]string{"secret/db/1": "one"})

		status := a.putDB(t, "two", 2)
		if want := []resources.ServiceRevision{{Service: "web", Revision: 2}}; !cmp.Equal(status.Services, want) {
			t.Errorf("the put tells of %v", status.Services)
		}
		a.live(t, 30*time.Second)
		has("after the second value", 2, map[string]string{"secret/db/2": "two"})
		if again := a.putDB(t, "two", 2); again.Services[0].Revision != 2 {
			t.Errorf("the same value again: %v", again)
		}
		state, err := s.Store.Load(t.Context())
		if err != nil || len(state.Contents) != 1 {
			t.Errorf("the store holds %d contents, %v", len(state.Contents), err)
		}

		a.putDB(t, "three", 3)
		a.live(t, time.Minute)
		has("after a value that nothing runs with", 4, map[string]string{"secret/db/2": "two"})
		if again := a.putDB(t, "three", 3); again.Services[0].Revision != 5 {
			t.Errorf("an apply that is repeated: %v", again)
		}
		a.live(t, time.Minute)
		has("after the second attempt", 6, map[string]string{"secret/db/2": "two"})
		if scaled := image(service, service.Image); a.put(t, scaled).Revision != 6 {
			t.Error("a put without a change revises the service")
		}
	})
}

// beside starts another server of the cluster, which does not lead.
func (c *cluster) beside(t *testing.T, kept store.Store) (other *Server, up *atomic.Bool) {
	t.Helper()
	other, up = New(Config{Self: resources.ServerAddress{Node: "other"}, Store: kept, Log: slog.New(slog.DiscardHandler)}), &atomic.Bool{}
	web := httptest.NewUnstartedServer(other.Handler())
	web.Config.SetKeepAlivesEnabled(false)
	web.Start()
	t.Cleanup(web.Close)
	c.server.Dial = func(ctx context.Context, to resources.ServerAddress) (net.Conn, error) {
		if to.Node != "other" || !up.Load() {
			return nil, errors.New("it is down")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", web.Listener.Addr().String())
	}
	state, err := kept.Load(t.Context())
	if err == nil {
		err = kept.Commit(t.Context(), state, []store.Change{store.PutServer(resources.ServerAddress{Node: "other", Host: "10.0.0.2"})})
	}
	if err != nil {
		t.Fatal(err)
	}
	return other, up
}

func (c *cluster) state(t *testing.T) *store.State {
	t.Helper()
	state, err := c.server.Store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// opens fails the test unless the server has the key of all that is sealed.
func opens(t *testing.T, step string, s *Server, state *store.State, contents int) {
	t.Helper()
	if len(state.Contents) != contents {
		t.Errorf("%s, the store has %d contents, want %d", step, len(state.Contents), contents)
	}
	for _, content := range state.Contents {
		if _, err := s.Keys.Open(content); err != nil {
			t.Errorf("%s, on server %s: %v", step, s.Self.Node, err)
		}
	}
}

func TestNothingIsSealedBeforeEveryServerHasTheKey(t *testing.T) {
	kept := &store.Memory{}
	c := start(t, kept)
	other, up := c.beside(t, kept)
	if _, err := c.Nodes(t.Context()); err != nil { // it leads
		t.Fatal(err)
	}
	// Not by the client, which tries again for a while.
	err := c.server.haveKey(t.Context())
	refused(t, err, http.StatusServiceUnavailable, "the one on node other did not take it", "it is down")
	if state := c.state(t); len(state.Contents) != 0 {
		t.Errorf("the store has %v", state.Contents)
	}
	up.Store(true)
	c.keep(t, "word", 1, "a = 1")
	opens(t, "at first", c.server, c.state(t), 2)
	opens(t, "at first", other, c.state(t), 2)
	if n := len(c.server.Keys.Keys()); n != 1 {
		t.Errorf("the attempts have left %d keys", n)
	}

	up.Store(false)
	_, err = c.server.introduce(t.Context(), time.Now())
	refused(t, err, http.StatusServiceUnavailable, "node other")
	opens(t, "after a rotation that failed", other, c.state(t), 2)
	if _, err := c.PutSecret(t.Context(), resources.Secret{Name: "second", Value: "word"}); err != nil {
		t.Fatal(err)
	}
	opens(t, "after a rotation that failed", other, c.state(t), 3)

	up.Store(true)
	before := c.server.Keys.Keys()
	rotation, err := c.RotateKey(t.Context())
	if err != nil || rotation.Resealed != 3 || len(rotation.Late) > 0 {
		t.Errorf("%+v, %v", rotation, err)
	}
	for _, s := range []*Server{c.server, other} {
		opens(t, "after the rotation", s, c.state(t), 3)
		if keys := s.Keys.Keys(); len(keys) != 1 || keys[0].ID != rotation.Key {
			t.Errorf("server %s has %d keys of %d", s.Self.Node, len(keys), len(before))
		}
	}
	if keys := c.state(t).Keys; len(keys) != 1 || keys[rotation.Key].State != resources.KeyCurrent {
		t.Errorf("the store knows of %v", keys)
	}
}

// A leader that ends in the middle of a rotation leaves nothing that can't be
// opened, and the next one goes on with it, though it has lost its own keys.
func TestARotationIsFinishedByTheNextLeader(t *testing.T) {
	kept := &store.Memory{}
	c := start(t, kept)
	other, up := c.beside(t, kept)
	up.Store(true)
	c.keep(t, "word", 1, "a = 1")
	if _, err := c.server.introduce(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutSecret(t.Context(), resources.Secret{Name: "late", Value: "word"}); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, content := range c.state(t).Contents {
		used[content.Key] = true
	}
	if len(used) != 2 {
		t.Fatalf("the contents are sealed with %d keys", len(used))
	}
	opens(t, "in the middle", other, c.state(t), 3)
	for _, k := range c.server.Keys.Keys() {
		if err := c.server.Keys.Change(resources.Keyring{Drop: []string{k.ID}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.server.settleKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	opens(t, "at last", c.server, c.state(t), 3)
	opens(t, "at last", other, c.state(t), 3)
	if n := len(c.server.Keys.Keys()); n != 1 || len(c.state(t).Keys) != 1 {
		t.Errorf("%d keys are left", n)
	}
}
