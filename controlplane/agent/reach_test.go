package agent

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

func TestReach(t *testing.T) {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.77", resources.AgentPort))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it goes with the test
	a := newAgent(t, &fakePlane{})
	a.Machine = func() (Machine, error) { return Machine{Addresses: []string{"127.0.0.79"}}, nil }
	w := call(t, a, http.MethodPost, "/v1/node/reach",
		`[{"name":"there","address":"127.0.0.77"},{"name":"silent","address":"127.0.0.78"},{"name":"twin","address":"127.0.0.79"}]`)
	said := w.Body.String()
	for _, want := range []string{"silent", "connection refused", "twin", "127.0.0.79 is an address of both"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said of who is not reached: %s", want, said)
		}
	}
	if strings.Contains(said, "there") {
		t.Errorf("who is reached is told: %s", said)
	}
}
