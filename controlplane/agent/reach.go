package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// reachTimeout is how long another node may take to answer a connection: a
// second for each of the first two attempts of TCP, and some.
const reachTimeout = 4 * time.Second

// reach tries which other nodes this one reaches, by the ports of their agents,
// and answers with those that it does not.
func (a *Agent) reach(r *http.Request) (any, error) {
	others, err := api.Body[[]resources.Neighbour](r)
	if err != nil {
		return nil, err
	}
	machine, err := a.Machine()
	if err != nil {
		return nil, err
	}
	var trying sync.WaitGroup
	for i := range others {
		trying.Go(func() { others[i].Problem = tryNode(r.Context(), others[i].Address, machine.Addresses) })
	}
	trying.Wait()
	return slices.DeleteFunc(others, func(n resources.Neighbour) bool { return n.Problem == "" }), nil
}

// tryNode says why a node is not reached at an address; nothing where it is.
func tryNode(ctx context.Context, address string, own []string) string {
	if slices.Contains(own, address) {
		return fmt.Sprintf("%s is an address of both", address)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("no answer within %s", reachTimeout))
	defer cancel()
	connected, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, resources.AgentPort))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("connect to %s: %w", net.JoinHostPort(address, resources.AgentPort), cause)
		}
		return err.Error()
	}
	connected.Close() //nolint:errcheck // it was reached
	return ""
}
