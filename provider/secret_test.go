package provider

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// A secret and a config live as long as they are wanted, and a service that can't
// run with what was put is an error of the put.
func TestTheLifeOfASecretAndAConfig(t *testing.T) {
	ctx := t.Context()
	connections, err := connect(slog.New(slog.DiscardHandler), "1.2.3")(ctx, &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connections.machines.Close)
	endpoint := controlPlane(t)
	word := &Secret{Cluster: endpoint, Secret: resources.Secret{Name: "word", Value: "one", Version: 1}}
	source := filepath.Join(t.TempDir(), "site")
	if err := os.WriteFile(source, []byte("a\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	site := &ConfigFile{Cluster: endpoint, Source: source}
	site.Name = "site"
	if problems := append(secret.Check(word), configFile.Check(site)...); len(problems) > 0 {
		t.Error(problems)
	}
	both := *site
	both.Content = "a"
	if problems := configFile.Check(&both); len(problems) != 1 || problems[0].Path != "source" {
		t.Errorf("content beside source: %v", problems)
	}
	if err := secret.Create(ctx, connections, word); err != nil {
		t.Fatal(err)
	}
	if err := configFile.Create(ctx, connections, site); err != nil || site.SHA256 != resources.ConfigSum([]byte("a\xff")) {
		t.Fatalf("%q, %v", site.SHA256, err)
	}
	if err := os.WriteFile(source, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := configFile.Update(ctx, connections, site, site); err == nil || !strings.Contains(err.Error(), "has changed since the plan") {
		t.Errorf("a file that has changed since the plan: %v", err)
	}

	s := &Service{Cluster: endpoint}
	s.Name, s.Replicas, s.Image = "web", 1, "localhost/web:1"
	s.Secrets = []resources.SecretMount{{Secret: "word"}}
	s.Configs = []resources.ConfigMount{{Config: "site"}}
	s.SetDefaults()
	if err := createService(ctx, connections, s); err != nil {
		t.Fatal(err)
	}
	next := *word
	next.Value, next.Version = "bad", 2
	if err := secret.Update(ctx, connections, word, &next); err == nil || !strings.Contains(err.Error(), "service web: revision 2 can't run") || strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("a value that nothing runs with: %v", err)
	}
	next.Value, next.Version = "three", 3
	if err := secret.Update(ctx, connections, word, &next); err != nil {
		t.Errorf("the next one: %v", err)
	}
	imported, err := secret.Import(ctx, connections, "word@"+endpoint)
	if err != nil || imported.Version != 3 || imported.Value != "" {
		t.Errorf("the import gives %+v, %v", imported, err)
	}
	file, err := configFile.Import(ctx, connections, "site@"+endpoint)
	if err != nil || file.SHA256 != site.SHA256 || file.Content != "" {
		t.Errorf("the import gives %+v, %v", file, err)
	}

	// What goes at the same time is waited for.
	removed := make(chan error, 2)
	go func() { _, err := secret.Delete(ctx, connections, word); removed <- err }()
	go func() { _, err := configFile.Delete(ctx, connections, site); removed <- err }()
	if _, err := services.delete(ctx, connections, s); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-removed; err != nil {
			t.Errorf("the removal: %v", err)
		}
	}
	if reading, err := secret.Read(ctx, connections, word); err != nil || !reading.Gone {
		t.Errorf("after the removal: %+v, %v", reading, err)
	}
}
