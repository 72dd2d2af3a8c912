package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// deadline bounds each wait of these tests: an election takes 5 s.
const deadline = time.Minute

// members are the members of one store, on loopback.
type members struct {
	authority pki.Pair
	stores    map[resources.NodeID]*store.Etcd
	joined    map[resources.NodeID]string
}

// credentials puts those of a node into a new directory.
func credentials(t *testing.T, pair pki.Pair, node resources.NodeID, server bool) string {
	t.Helper()
	authority, err := pki.ReadAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Sign(request, node, server, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"node.key": key, "node.crt": certificate, "ca.crt": pair.Certificate} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it only found the port
	return listener.Addr().String()
}

// start starts the member of a node; the first one begins the store.
func (m *members) start(t *testing.T, node resources.NodeID, pkiDir string) error {
	t.Helper()
	run, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) }) //nolint:errcheck // a directory in the temporary directory
	member := store.Member{Dir: t.TempDir(), Run: run, Node: node, Peer: m.joined[node], PKI: pkiDir}
	if len(m.stores) > 0 {
		member.Join = m.joined
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := store.OpenEtcd(ctx, member, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	t.Cleanup(s.Close)
	m.stores[node] = s
	return nil
}

func newMembers(t *testing.T) *members {
	t.Helper()
	pair, err := pki.NewAuthority("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := &members{authority: pair, stores: map[resources.NodeID]*store.Etcd{}, joined: map[resources.NodeID]string{"a": freeAddress(t)}}
	if err := m.start(t, "a", credentials(t, pair, "a", true)); err != nil {
		t.Fatal(err)
	}
	return m
}

// join lets a node's member join, as a leader does: a learner first, that votes
// once it has caught up.
func (m *members) join(t *testing.T, node resources.NodeID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	m.joined[node] = freeAddress(t)
	for {
		err := m.stores["a"].AddLearner(ctx, m.joined[node])
		if err == nil {
			break
		}
		// Etcd takes a new member once the present ones know each other well.
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if err := m.start(t, node, credentials(t, m.authority, node, true)); err != nil {
		t.Fatal(err)
	}
	for {
		peers, err := m.stores["a"].Peers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if p.Node != node || p.Address != m.joined[node] {
				continue
			}
			err := m.stores["a"].Promote(ctx, p.ID)
			if err == nil {
				return
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
}

// put commits a service, and says what became of it.
func put(ctx context.Context, s store.Store, name string) error {
	state, err := s.Load(ctx)
	if err != nil {
		return err
	}
	return s.Commit(ctx, state, []store.Change{store.PutService(resources.ServiceRecord{Service: resources.Service{Name: name}})})
}

// Three members hold the same, and go on when one is lost; a leader that is lost
// is followed by another, and a term that is over commits nothing.
func TestThreeMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time of an election; left out by -short")
	}
	m := newMembers(t)
	if err := put(t.Context(), m.stores["a"], "before"); err != nil {
		t.Fatal(err)
	}
	m.join(t, "b")
	m.join(t, "c")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for node, s := range m.stores {
		state, err := s.Load(ctx)
		if _, found := state.Services["before"]; err != nil || !found {
			t.Errorf("%s has %v, %v", node, state.Services, err)
		}
	}
	term, err := m.stores["a"].Campaign(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	leaders := m.stores["b"].Leader(ctx)
	if got := <-leaders; got != "a" {
		t.Errorf("b is told that %q leads", got)
	}
	if err := put(ctx, term.Store(), "led"); err != nil {
		t.Fatal(err)
	}
	next := make(chan *store.Term)
	go func() {
		// While the store has no leader of its own, a campaign fails, and is begun
		// again.
		term, err := m.stores["b"].Campaign(ctx, "b")
		for err != nil && ctx.Err() == nil {
			term, err = m.stores["b"].Campaign(ctx, "b")
		}
		next <- term
	}()
	m.stores["a"].Close()
	second := <-next
	if second == nil {
		t.FailNow()
	}
	<-term.Context().Done()
	if err := put(ctx, second.Store(), "after"); err != nil {
		t.Errorf("without a: %v", err)
	}
	for got := range leaders {
		if got == "b" {
			break
		}
	}
	// Whoever resigned commits nothing more, though its store answers.
	second.Resign(ctx)
	if err := put(ctx, second.Store(), "late"); !errors.Is(err, store.ErrStale) {
		t.Errorf("after its term: %v", err)
	}
	state, err := m.stores["c"].Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"before": true, "led": true, "after": true, "late": false} {
		if _, found := state.Services[name]; found != want {
			t.Errorf("%s is there: %v", name, found)
		}
	}
}

// Whoever is no server of the cluster is no member of its store.
func TestStrangersAreNoMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a member that never comes; left out by -short")
	}
	other, err := pki.NewAuthority("c2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, directory := range map[string]func(*members) string{
		"a worker":                    func(m *members) string { return credentials(t, m.authority, "b", false) },
		"a server of another cluster": func(*members) string { return credentials(t, other, "b", true) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMembers(t)
			m.joined["b"] = freeAddress(t)
			if err := m.stores["a"].AddLearner(t.Context(), m.joined["b"]); err != nil {
				t.Fatal(err)
			}
			if err := m.start(t, "b", directory(m)); err == nil {
				t.Error("it is a member")
			}
		})
	}
}

// Secrets are written once.
func TestSecrets(t *testing.T) {
	s := open(t, t.TempDir())
	if got, err := s.Secret(t.Context(), "authority"); got != nil || err != nil {
		t.Errorf("an absent one is %q, %v", got, err)
	}
	for i, want := range []error{nil, store.ErrStale} {
		if err := s.PutSecret(t.Context(), "authority", fmt.Appendf(nil, "key %d", i)); !errors.Is(err, want) {
			t.Errorf("put %d: %v", i, err)
		}
	}
	if got, err := s.Secret(t.Context(), "authority"); string(got) != "key 0" || err != nil {
		t.Errorf("it is %q, %v", got, err)
	}
}
