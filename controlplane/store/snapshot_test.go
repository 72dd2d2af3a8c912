package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// A store of two members is saved, and begins anew on another machine with
// all that it held, its secrets too.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n1 := c.any()
	n2 := c.join(t, "n2")
	put(t, n1, "web", 7)
	if err := n1.PutSecret(t.Context(), "authority", []byte("key")); err != nil {
		t.Fatal(err)
	}
	if err := n1.Commit(t.Context(), load(t, n1), []store.Change{store.PutServer(resources.ServerAddress{Node: "n1"})}); err != nil {
		t.Fatal(err)
	}
	term := campaign(t, n1.Etcd, "n1")
	var saved bytes.Buffer
	if err := n2.Snapshot(t.Context(), &saved); err != nil {
		t.Fatal(err)
	}
	put(t, term.Store(), "later", 1)
	term.Resign(t.Context())
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, saved.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	n3 := c.prepare(t, "n3")
	if err := store.Restore(file, n3.Member); err != nil {
		t.Fatal(err)
	}
	c.members = map[resources.NodeID]*member{}
	c.start(t, n3)
	state, err := n3.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Services) != 1 || state.Services["web"].Revision != 7 {
		t.Errorf("services after the restore: %v", state.Services)
	}
	if secret, err := n3.Secret(t.Context(), "authority"); string(secret) != "key" || err != nil {
		t.Errorf("the secret after the restore: %q, %v", secret, err)
	}
	put(t, campaign(t, n3.Etcd, "n3").Store(), "web", 8)
	c.join(t, "n4")

	if err := store.Restore(file, n3.Member); err == nil {
		t.Error("a store that is there is overwritten")
	}
	broken := bytes.Clone(saved.Bytes())
	broken[len(broken)/2] ^= 1
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(file, c.prepare(t, "n5").Member); err == nil {
		t.Error("a damaged snapshot is restored")
	}
	alone := store.Member{Dir: filepath.Join(t.TempDir(), "etcd"), Run: runDirectory(t)}
	if err := os.WriteFile(file, saved.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(file, alone); err != nil {
		t.Fatal(err)
	}
	e, err := store.OpenEtcd(t.Context(), alone, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got := services(t, e); got != 1 {
		t.Errorf("%d services, want 1", got)
	}
	if err := e.BeginAnew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := load(t, e); len(got.Servers) != 0 || len(got.Services) != 1 {
		t.Errorf("it begins anew with %+v", got)
	}
	campaign(t, e, "n9") // at once
}

func load(t *testing.T, s store.Store) *store.State {
	t.Helper()
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}
