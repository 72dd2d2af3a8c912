package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/skerry-io/skerry/controlplane/store"
)

func TestWhatAWorkerMayRead(t *testing.T) {
	c := start(t, &store.Memory{})
	block, _ := pem.Decode(c.admit(t, "n1").Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	shown := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}, VerifiedChains: [][]*x509.Certificate{{certificate}}}
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
		r, w := httptest.NewRequest(call.method, call.path, nil), httptest.NewRecorder()
		r.TLS = call.tls
		c.server.NodeHandler().ServeHTTP(w, r)
		if w.Code != call.want {
			t.Errorf("%s %s: %d, want %d", call.method, call.path, w.Code, call.want)
		}
	}
}
