package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// cluster is a store with several members, all in this process.
type cluster struct {
	authority   *pki.Authority
	certificate []byte // of the authority
	members     map[resources.NodeID]*member
	cleanup     func(func()) // at the end of the whole test
}

type member struct {
	*store.Etcd
	store.Member
}

// newCluster starts the first member.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{members: map[resources.NodeID]*member{}, cleanup: t.Cleanup}
	pair, err := pki.NewAuthority("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c.authority, err = pki.ReadAuthority(pair); err != nil {
		t.Fatal(err)
	}
	c.certificate = pair.Certificate
	c.start(t, c.prepare(t, "n1"))
	return c
}

// prepare gives a member that does not run yet its directories, its address and
// its certificate.
func (c *cluster) prepare(t *testing.T, node resources.NodeID) *member {
	t.Helper()
	m := &member{Member: store.Member{Dir: filepath.Join(t.TempDir(), "etcd"), Run: runDirectory(t), Node: node, Peer: freeAddress(t), PKI: t.TempDir()}}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.PKI, "node.key", key)
	write(t, m.PKI, "ca.crt", c.certificate)
	c.certify(t, m, true)
	return m
}

// certify signs a new certificate for the key that the member has.
func (c *cluster) certify(t *testing.T, m *member, server bool) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(m.PKI, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := c.authority.Sign(request, m.Node, server, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.PKI, "node.crt", certificate)
}

// start opens a member, for the first time or again.
func (c *cluster) start(t *testing.T, m *member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var err error
	if m.Etcd, err = store.OpenEtcd(ctx, m.Member, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	c.cleanup(m.Close)
	c.members[m.Node] = m
}

// any is a member that runs.
func (c *cluster) any() *member {
	return c.members[slices.Min(slices.Collect(maps.Keys(c.members)))]
}

// join brings a new member in, up to its vote.
func (c *cluster) join(t *testing.T, node resources.NodeID) *member {
	t.Helper()
	m := c.prepare(t, node)
	c.learn(t, m)
	c.start(t, m)
	ask := c.any()
	id := peer(t, ask, m.Peer).ID
	again(t, store.ErrNotCaughtUp, func() error { return ask.Promote(t.Context(), id) })
	return m
}

// learn makes a learner of the member, and tells it of the others.
func (c *cluster) learn(t *testing.T, m *member) {
	t.Helper()
	ask := c.any()
	again(t, store.ErrUnsettled, func() error { return ask.AddLearner(t.Context(), m.Peer) })
	m.Join = map[resources.NodeID]string{m.Node: m.Peer}
	for node, other := range c.members {
		m.Join[node] = other.Peer
	}
}

// leave removes a member that runs.
func (c *cluster) leave(t *testing.T, node resources.NodeID) {
	t.Helper()
	gone := c.members[node]
	delete(c.members, node)
	ask := c.any()
	id := peer(t, ask, gone.Peer).ID
	again(t, store.ErrUnsettled, func() error { return ask.RemovePeer(t.Context(), id) })
	select {
	case err := <-gone.Err():
		if !errors.Is(err, store.ErrRemoved) {
			t.Errorf("the member that was removed ended with %v, want ErrRemoved", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the member that was removed runs on")
	}
	gone.Close()
}

func peer(t *testing.T, ask *member, address string) store.Peer {
	t.Helper()
	peers, err := ask.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if p.Address == address {
			return p
		}
	}
	t.Fatalf("no member at %s: %+v", address, peers)
	return store.Peer{}
}

// again calls what is refused for a while until it isn't.
func again(t *testing.T, refusal error, try func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if !errors.Is(err, refusal) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("refused for too long: %v", err)
		}
	}
}

func runDirectory(t *testing.T) string {
	t.Helper()
	run, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) }) //nolint:errcheck // a directory in the temporary directory
	return run
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it only finds a port
	return listener.Addr().String()
}

func write(t *testing.T, directory, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// put commits a service whose revision tells commits apart.
func put(t *testing.T, s store.Store, name string, revision int) {
	t.Helper()
	if err := tryPut(t.Context(), s, name, revision); err != nil {
		t.Fatal(err)
	}
}

func tryPut(ctx context.Context, s store.Store, name string, revision int) error {
	state, err := s.Load(ctx)
	if err != nil {
		return err
	}
	record := resources.ServiceRecord{Service: resources.Service{Name: name}, Revision: revision}
	return s.Commit(ctx, state, []store.Change{store.PutService(record)})
}

func services(t *testing.T, s store.Store) int {
	t.Helper()
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(state.Services)
}

// A store grows from one member to five and shrinks to another one, and every
// member has everything.
func TestEtcdGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	count := 0
	step := func() {
		for range 10 {
			put(t, c.any(), fmt.Sprintf("s%d", count), 1)
			count++
		}
		for node, m := range c.members {
			if got := services(t, m); got != count {
				t.Errorf("%s of %d members has %d services, want %d", node, len(c.members), got, count)
			}
		}
	}
	step()
	for _, node := range []resources.NodeID{"n2", "n3", "n4", "n5"} {
		c.join(t, node)
		step()
	}
	for _, node := range []resources.NodeID{"n1", "n2", "n3", "n4"} {
		c.leave(t, node)
		step()
	}
	peers, err := c.any().Peers(t.Context())
	if err != nil || len(peers) != 1 || peers[0].Node != "n5" || peers[0].Learner {
		t.Errorf("members at the end: %+v, %v", peers, err)
	}
}
