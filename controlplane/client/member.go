package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// Way is how a node reaches the control plane of its cluster.
type Way struct {
	// Socket of the server on this very node, or empty where it runs none.
	Socket string
	// Servers are all of them.
	Servers []resources.ServerAddress
	// Credentials by which the node is known to the servers on other machines.
	Credentials pki.Credentials
	// Dial connects to one of them; DialServer with Credentials unless given.
	Dial func(ctx context.Context, server resources.ServerAddress) (net.Conn, error)
}

// Member returns the API of a cluster for one of its nodes. The way is asked for
// each new connection, so that servers may come and go.
func (d *Dialer) Member(way func() (Way, error)) *Server {
	c := &connection{log: d.log}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			w, err := way()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return w.dial(ctx, int(c.turn.Load()))
		},
		IdleConnTimeout: time.Minute, ExpectContinueTimeout: api.ExpectPatience,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members = append(d.members, c)
	return &Server{c}
}

const (
	// serverTimeout is how long one server may take to answer: they are on one
	// network, and there is a heartbeat to be kept.
	serverTimeout = 2 * time.Second
	// nextServer is when the next server is tried beside one that does not answer
	// yet: later than one that is well answers.
	nextServer = 250 * time.Millisecond
)

// dial connects to the server of this node, or else to the first one that
// answers. Those that are away delay it by no more than nextServer each. With each
// turn, another one is the first.
func (w Way) dial(ctx context.Context, turn int) (net.Conn, error) {
	var failures []error
	first := w.Socket != ""
	if first && turn > 0 {
		turn %= len(w.Servers) + 1
		first = turn == 0
		turn = max(0, turn-1)
	}
	w.Servers = from(w.Servers, turn)
	if first {
		connected, err := (&net.Dialer{}).DialContext(ctx, "unix", w.Socket)
		if err == nil {
			return connected, nil
		}
		failures = append(failures, err)
	}
	connected, err := w.dialFirst(ctx)
	if err == nil {
		return connected, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(append(failures, err)...))
}

// dialFirst connects to the first server that answers.
func (w Way) dialFirst(ctx context.Context) (net.Conn, error) {
	if len(w.Servers) == 0 {
		return nil, errors.New("the node knows of no server")
	}
	dial := w.Dial
	if dial == nil {
		dial = func(ctx context.Context, server resources.ServerAddress) (net.Conn, error) {
			return DialServer(ctx, w.Credentials, server)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout+time.Duration(len(w.Servers))*nextServer)
	defer cancel() // it ends the attempts that are left
	answers := make(chan answer)
	var failures []error
	next := time.NewTimer(0)
	defer next.Stop()
	for begun := 0; len(failures) < len(w.Servers); {
		select {
		case <-next.C:
			server := w.Servers[begun]
			go attempt(ctx, func() (net.Conn, error) { return dial(ctx, server) }, answers)
			begun++
			if begun < len(w.Servers) {
				next.Reset(nextServer)
			}
		case a := <-answers:
			if a.err == nil {
				return a.Conn, nil
			}
			failures = append(failures, a.err)
			if begun < len(w.Servers) {
				next.Reset(0)
			}
		case <-ctx.Done():
			return nil, errors.Join(append(failures, context.Cause(ctx))...)
		}
	}
	return nil, errors.Join(failures...)
}

// answer is what came of an attempt to connect.
type answer struct {
	net.Conn
	err error
}

// attempt connects, and gives the answer unless ctx has ended: then another one
// was faster.
func attempt(ctx context.Context, dial func() (net.Conn, error), answers chan<- answer) {
	connected, err := dial()
	select {
	case answers <- answer{connected, err}:
	case <-ctx.Done():
		if err == nil {
			connected.Close() //nolint:errcheck // nothing was sent
		}
	}
}

// DialServer connects to a server as a member of its cluster.
func DialServer(ctx context.Context, c pki.Credentials, server resources.ServerAddress) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	config, err := c.Client(pki.NodeName(server.Node))
	if err != nil {
		return nil, err
	}
	connected, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", server.API())
	if err != nil {
		return nil, fmt.Errorf("connect to the server on node %s at %s: %w", server.Node, server.API(), err)
	}
	return connected, nil
}

// DialAgent connects to the agent of a node as a server of its cluster, at the
// first of its addresses that answers.
func DialAgent(ctx context.Context, c pki.Credentials, node resources.NodeInfo) (net.Conn, error) {
	config, err := c.Client(pki.NodeName(node.ID))
	if err != nil {
		return nil, err
	}
	failures := []error{fmt.Errorf("connect to the agent of node %s", node.Name)}
	for _, address := range node.Addresses {
		bounded, cancel := context.WithTimeout(ctx, serverTimeout)
		connected, err := (&tls.Dialer{Config: config}).DialContext(bounded, "tcp", net.JoinHostPort(address, resources.AgentPort))
		cancel()
		if err == nil {
			return connected, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}
