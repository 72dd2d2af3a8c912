package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

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
