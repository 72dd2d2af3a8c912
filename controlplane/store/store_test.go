package store_test

import (
	"context"
	"flag"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/controlplane/store/storetest"
	"github.com/skerry-io/skerry/resources"
)

// Most tests here wait for etcd's own intervals, not for the processor.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	flag.Parse() // the command line has the last word
	// etcd leaves the idle connections between members to HTTP's own timeouts.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
	)
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return &store.Memory{} })
}

func TestEtcd(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()) })
}

// A server that starts again has what it had.
func TestEtcdKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := open(t, dir)
	state, err := first.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := resources.ServiceRecord{Service: resources.Service{Name: "web"}, Revision: 7}
	if err := first.Commit(t.Context(), state, []store.Change{store.PutService(record)}); err != nil {
		t.Fatal(err)
	}
	first.Close()
	again, err := open(t, dir).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Services["web"].Revision != 7 {
		t.Errorf("services after a restart: %v", again.Services)
	}
}

func open(t *testing.T, dir string) *store.Etcd {
	t.Helper()
	s, err := store.OpenEtcd(context.Background(), store.Member{Dir: dir, Run: runDirectory(t)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
