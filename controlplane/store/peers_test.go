package store_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// ask connects to the member n1 as other members do, with the certificate of
// one, and says whether both let each other in.
func ask(t *testing.T, n1, from *member) error {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(from.PKI, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	authority, err := os.ReadFile(filepath.Join(n1.PKI, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := pki.Credentials{Pair: pki.Pair{Certificate: read("node.crt"), Key: read("node.key")}, Authority: authority}.Client(pki.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+n1.Peer+"/members", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err == nil {
		response.Body.Close() //nolint:errcheck // its status is enough
	}
	return err
}

// Members let in servers of their cluster and nobody else, and a certificate
// counts from the moment when it is in its file.
func TestPeersAreServersOfTheCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n1, other := c.any(), c.prepare(t, "n2")
	if err := ask(t, n1, other); err != nil {
		t.Errorf("a server: %v", err)
	}
	c.certify(t, other, false)
	if err := ask(t, n1, other); err == nil {
		t.Error("a worker is let in")
	}
	stranger := newCluster(t).prepare(t, "n2")
	if err := ask(t, n1, stranger); err == nil {
		t.Error("a server of another cluster is let in")
	}
	c.certify(t, other, true)
	c.certify(t, n1, false)
	if err := ask(t, n1, other); err == nil {
		t.Error("a worker is believed to be a server")
	}
	c.certify(t, n1, true)
	if err := ask(t, n1, other); err != nil {
		t.Errorf("a server with a new certificate: %v", err)
	}
}

// A member that runs shows its new certificate to others also where it connects
// to them.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n1, n2 := c.any(), c.join(t, "n2")
	n2.Close()
	c.certify(t, n1, false) // as good as none
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if e, err := store.OpenEtcd(ctx, n2.Member, slog.New(slog.DiscardHandler)); err == nil {
		e.Close()
		t.Fatal("one of two members answers, though the other is no server")
	}
	c.certify(t, n1, true)
	c.start(t, n2)
	put(t, n2, "web", 1)
	if got := services(t, n1); got != 1 {
		t.Errorf("%d services, want 1", got)
	}
}

// A learner that does not come is refused its vote, and leaves nothing behind.
func TestJoinFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n1, n2 := c.any(), c.prepare(t, "n2")
	for range 2 {
		if err := n1.AddLearner(t.Context(), n2.Peer); err != nil {
			t.Fatal(err)
		}
	}
	learner := peer(t, n1, n2.Peer)
	if !learner.Learner || learner.Node != "" {
		t.Errorf("a learner that has not started: %+v", learner)
	}
	if err := n1.Promote(t.Context(), learner.ID); !errors.Is(err, store.ErrNotCaughtUp) {
		t.Errorf("a learner that has not started: %v, want ErrNotCaughtUp", err)
	}
	put(t, n1, "web", 1)
	for range 2 {
		if err := n1.RemovePeer(t.Context(), learner.ID); err != nil {
			t.Fatal(err)
		}
	}
	peers, err := n1.Peers(t.Context())
	if err != nil || len(peers) != 1 {
		t.Errorf("members after a join that failed: %+v, %v", peers, err)
	}
	if err := n1.RemovePeer(t.Context(), peers[0].ID); err == nil {
		t.Error("a member removes itself")
	}
	// It may come another time, and with nothing but its new certificate.
	c.join(t, "n2")
}

// A store that was alone, with the name and the socket that it had then, takes
// another member.
func TestAloneAndThenNot(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one := c.prepare(t, "old")
	delete(c.members, "n1")
	alone, err := store.OpenEtcd(t.Context(), store.Member{Dir: one.Dir, Run: one.Run}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	put(t, alone, "web", 7)
	alone.Close()
	c.start(t, one)
	if got := peer(t, one, one.Peer); got.Node != "old" {
		t.Errorf("a member with a new name: %+v", got)
	}
	two := c.join(t, "new")
	if got := services(t, two); got != 1 {
		t.Errorf("%d services, want 1", got)
	}
	// An address that changes is told to the others, at the next start.
	two.Close()
	two.Peer = freeAddress(t)
	c.start(t, two)
	if got := peer(t, one, two.Peer); got.Node != "new" {
		t.Errorf("a member with a new address: %+v", got)
	}
}

// A member that was removed while it was away learns so.
func TestRemovedWhileAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.join(t, "n2")
	n3 := c.join(t, "n3")
	n3.Close()
	delete(c.members, resources.NodeID("n3"))
	again(t, store.ErrUnsettled, func() error { return c.any().RemovePeer(t.Context(), peer(t, c.any(), n3.Peer).ID) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := store.OpenEtcd(ctx, n3.Member, slog.New(slog.DiscardHandler))
	if err == nil {
		defer e.Close()
		select { // it may have answered before the others told it
		case err = <-e.Err():
		case <-ctx.Done():
		}
	}
	if !errors.Is(err, store.ErrRemoved) {
		t.Errorf("a member that was removed while it was away: %v, want ErrRemoved", err)
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	e := open(t, t.TempDir())
	if got, err := e.Secret(t.Context(), "authority"); got != nil || err != nil {
		t.Errorf("an absent secret: %q, %v", got, err)
	}
	if err := e.PutSecret(t.Context(), "authority", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := e.PutSecret(t.Context(), "authority", []byte("two")); !errors.Is(err, store.ErrStale) {
		t.Errorf("a secret that is there: %v, want ErrStale", err)
	}
	if got, err := e.Secret(t.Context(), "authority"); string(got) != "one" || err != nil {
		t.Errorf("the secret: %q, %v", got, err)
	}
}
