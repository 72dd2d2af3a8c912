package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/controlplane/store"
)

func TestWhatAWorkerMayRead(t *testing.T) {
	c := start(t, &store.Memory{})
	shown := showing(t, c.admit(t, "n1").Certificate)
	for _, call := range []struct {
		method, path string
		tls          *tls.ConnectionState
		want         int
	}{
		{http.MethodGet, "/metrics", shown, http.StatusOK},
		{http.MethodGet, "/metrics", nil, http.StatusUnauthorized},
		{http.MethodPost, "/metrics", shown, http.StatusForbidden},
		{http.MethodGet, "/v1/cluster", shown, http.StatusOK},
		{http.MethodGet, "/v1/services", shown, http.StatusForbidden},
		{http.MethodGet, "/v1/nodes/n2", shown, http.StatusForbidden},
	} {
		if code := c.call(call.method, call.path, call.tls); code != call.want {
			t.Errorf("%s %s: %d, want %d", call.method, call.path, code, call.want)
		}
	}
}

// What a node that was forgotten has of the cluster is good for nothing, be it the
// certificate of a server.
func TestAForgottenNodeMayDoNothing(t *testing.T) {
	kept := &store.Memory{}
	c := start(t, kept)
	worker := c.byHand(t, nodeInfo("n1"))
	shown := showing(t, c.admit(t, "n1").Certificate)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	asServer, err := c.server.Authority.Sign(request, "n1", true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	calls := []struct {
		method, path string
		tls          *tls.ConnectionState
	}{
		{http.MethodGet, "/v1/cluster", shown},
		{http.MethodGet, "/metrics", shown},
		{http.MethodGet, "/v1/nodes/n1", shown},
		{http.MethodGet, "/v1/nodes/n1/assignment", shown},
		{http.MethodPost, "/v1/nodes/n1/pulse", shown},
		{http.MethodGet, "/v1/services", showing(t, asServer)},
	}
	for _, call := range calls {
		if code := c.call(call.method, call.path, call.tls); code != http.StatusOK && code != http.StatusNoContent {
			t.Errorf("before, %s %s: %d", call.method, call.path, code)
		}
	}
	if err := c.DeleteNode(t.Context(), worker.id); err != nil {
		t.Fatal(err)
	}
	for { // the server hears of it as all others do
		v, changed := c.server.board.get()
		if !slices.Contains(v.state.Cluster.Nodes, worker.id) {
			break
		}
		<-changed
	}
	for _, call := range calls {
		if code := c.call(call.method, call.path, call.tls); code != http.StatusForbidden {
			t.Errorf("%s %s: %d", call.method, call.path, code)
		}
	}
	c.admit(t, "n1") // it joins anew
	if code := c.call(http.MethodGet, "/v1/cluster", shown); code != http.StatusOK {
		t.Errorf("let in again: %d", code)
	}
}

// showing is a connection with a certificate that was verified.
func showing(t *testing.T, text []byte) *tls.ConnectionState {
	t.Helper()
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}, VerifiedChains: [][]*x509.Certificate{{certificate}}}
}

// call is one of another node.
func (c *cluster) call(method, path string, shown *tls.ConnectionState) int {
	r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	r.TLS = shown
	c.server.NodeHandler().ServeHTTP(w, r)
	return w.Code
}
