package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

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
}

// Member returns the API of a cluster for one of its nodes. The way is asked for
// each new connection, so that servers may come and go.
func (d *Dialer) Member(way func() (Way, error)) *Server {
	return d.Over(func(ctx context.Context) (net.Conn, error) {
		w, err := way()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return w.dial(ctx)
	})
}

// Over returns the API of a cluster over connections that dial makes.
func (d *Dialer) Over(dial func(context.Context) (net.Conn, error)) *Server {
	c := &connection{log: d.log}
	c.transport = &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		IdleConnTimeout: time.Minute,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.members = append(d.members, c)
	return &Server{c}
}

// serverTimeout is how long one server may take to answer before another one is
// tried: they are on one network, and there is a heartbeat to be kept.
const serverTimeout = 2 * time.Second

// dial connects to the first server that answers: the one of this node before
// all others.
func (w Way) dial(ctx context.Context) (net.Conn, error) {
	var failures []error
	if w.Socket != "" {
		connected, err := (&net.Dialer{}).DialContext(ctx, "unix", w.Socket)
		if err == nil {
			return connected, nil
		}
		failures = append(failures, err)
	}
	for _, server := range w.Servers {
		if ctx.Err() != nil {
			break
		}
		connected, err := DialServer(ctx, w.Credentials, server)
		if err == nil {
			return connected, nil
		}
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		failures = append(failures, errors.New("the node knows of no server"))
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(failures...))
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
