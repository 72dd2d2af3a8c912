// Package podmanruntime runs the replicas of one node as Podman containers.
//
// A [Runtime] speaks to the node's Podman service over its unix socket, with
// Podman's own Go bindings, and holds no state that Podman doesn't: after a
// restart of the agent, List tells all there is to know. A container of skerry
// carries the label io.skerry.replica and is named skerry-ID after its replica;
// everything else on the machine is left alone.
//
// spec.go turns a replica into Podman's spec. It is pure, and tested as text.
// failure.go reads the reason out of Podman's errors, which are sentences.
// The rest is the lifecycle: every step may be repeated, a step whose work is
// done already succeeds, and removing what is absent succeeds.
//
// An exit is told by the event stream (exits.go). It comes 100 to 300 ms after
// the fact, since Podman writes the event when it cleans up; whoever needs it
// faster watches the PID that Start returns, and then asks List. Nothing here
// polls: Podman's service leaks memory under that (containers/podman 25473).
//
// It works with Podman 4.3 and 5.4, the versions of Debian 12 and 13.
package podmanruntime

import (
	"context"
	"fmt"
	"sync"

	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/system"

	"github.com/skerry-io/skerry/resources"
)

// Runtime runs containers through one Podman service. It may be used by many
// goroutines at once.
type Runtime struct {
	// Namespaces is the directory of the replicas' network namespaces: a file for
	// each, called after the replica's ID. Only replicas with addresses need it.
	Namespaces string
	// Memory is a directory in memory, for what Podman's bindings read from a file and
	// nobody else may.
	Memory string
	// RegistriesConf is the file of how registries are reached, which Podman reads
	// beside its own.
	RegistriesConf string

	socketURI string

	mu sync.Mutex // guards all below
	// connection carries Podman's connection as a value. It is nil before the
	// first call.
	connection context.Context //nolint:containedctx // the bindings take their connection from the context of each call
	// running containers as the last List saw them. While a run lasts, nothing
	// that List tells of it changes.
	running map[run]resources.Container
	// logs of the containers that have ended and were not started since, by ID.
	logs map[string]logFile
}

// New makes the Runtime of the Podman service at a URI like
// unix:///run/podman/podman.sock. Podman is not started before the first call
// needs it. Each call connects again where the connection was lost, so a Podman
// that was restarted needs no new Runtime.
func New(socketURI string) *Runtime {
	return &Runtime{socketURI: socketURI, logs: map[string]logFile{}}
}

// Version of the Podman service, as in "5.4.2".
func (r *Runtime) Version(ctx context.Context) (string, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	report, err := system.Version(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("ask Podman for its version: %w", err)
	}
	if report.Server == nil {
		return "", fmt.Errorf("ask Podman for its version: the answer has none")
	}
	return report.Server.Version, nil
}

// connect gives ctx with Podman's connection. Every exported method begins with
// it; what they call has such a ctx.
func (r *Runtime) connect(ctx context.Context) (context.Context, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connection == nil {
		connection, err := bindings.NewConnection(ctx, r.socketURI)
		if err != nil {
			return nil, fmt.Errorf("connect to Podman at %s: %w; is podman.socket enabled?", r.socketURI, err)
		}
		r.connection = connection
	}
	return callContext{Context: ctx, connection: r.connection}, nil
}

// callContext ends with one context and has the values of two.
type callContext struct {
	//nolint:containedctx // it is a context itself
	context.Context
	connection context.Context //nolint:containedctx // see Runtime.connection
}

func (c callContext) Value(key any) any {
	if value := c.connection.Value(key); value != nil {
		return value
	}
	return c.Context.Value(key)
}
