package provider

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// A node whose certificate has ended can't report; the next apply mends that.
func TestAnEndedCertificateIsNoticed(t *testing.T) {
	dir, err := os.MkdirTemp("", "skerry") //nolint:usetesting // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	var ends time.Time
	socket := filepath.Join(dir, "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	agent := &http.Server{Handler: api.Handler(func(*http.Request) (any, error) {
		return resources.NodeInfo{ID: "n1", CertificateEnds: ends}, nil
	})}
	go agent.Serve(listener)            //nolint:errcheck // it ends with the test
	t.Cleanup(func() { agent.Close() }) //nolint:errcheck // it ends
	c := &Connections{machines: client.NewDialer(client.Options{})}
	t.Cleanup(c.machines.Close)
	machines := []machine{{Endpoint: resources.Endpoint{Socket: socket, Node: "n1"}}}
	for _, test := range []struct {
		name  string
		ready bool
		ends  time.Time
		want  bool
	}{
		{"it has ended", false, time.Now().Add(-time.Hour), true},
		{"it is good, and the node is silent for another reason", false, time.Now().Add(time.Hour), false},
		{"an agent that doesn't say", false, time.Time{}, false},
		{"the node is heard", true, time.Now().Add(-time.Hour), false},
	} {
		ends = test.ends
		nodes := []resources.NodeStatus{{NodeInfo: resources.NodeInfo{ID: "n1"}, Ready: test.ready}, {NodeInfo: resources.NodeInfo{ID: "other"}}}
		if got := c.anyExpired(t.Context(), machines, nodes); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}
