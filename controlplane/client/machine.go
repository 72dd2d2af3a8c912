package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/resources"
)

// How long a machine may take to answer: dialTimeout for a connection and a
// login. An idle one is asked for a sign of life every keepalive, and has
// another two to give it.
const (
	dialTimeout = 10 * time.Second
	keepalive   = 10 * time.Second
)

// machine is the one SSH connection to a host.
type machine struct {
	dialer   *Dialer
	endpoint resources.Endpoint

	mu        sync.Mutex // guards all below
	connected *ssh.Client
	pending   *login
	closed    bool
	shown     ssh.PublicKey // the host key of the last login
}

// login is a login on its way. Whoever needs it waits for it.
type login struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the two below are set
	client *ssh.Client
	err    error
}

// client returns the connection, and logs in where there is none.
func (m *machine) client(ctx context.Context) (*ssh.Client, error) {
	m.mu.Lock()
	switch {
	case m.closed:
		m.mu.Unlock()
		return nil, &permanentError{err: errClosed}
	case m.connected != nil:
		defer m.mu.Unlock()
		return m.connected, nil
	case m.pending == nil:
		m.begin(ctx)
	}
	l := m.pending
	m.mu.Unlock()
	select {
	case <-l.done:
		return l.client, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("log in to %s: %w", m.endpoint.Host, context.Cause(ctx))
	}
}

// begin begins a login, which doesn't end with the call that needed it first:
// others may wait for it by then. m.mu is held.
func (m *machine) begin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	l := &login{cancel: cancel, done: make(chan struct{})}
	m.pending = l
	m.dialer.running.Go(func() {
		defer cancel()
		client, hop, err := m.login(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && m.closed {
			client.Close() //nolint:errcheck // nobody needs it any more
			closeHop(hop)
			err = &permanentError{err: errClosed}
		}
		if err == nil {
			m.connected = client
			m.attend(client, hop)
			l.client = client
		}
		l.err, m.pending = err, nil
		close(l.done)
	})
}

// attend starts what goes on while a connection lives, and ends with it.
func (m *machine) attend(client, hop *ssh.Client) {
	ended := make(chan struct{})
	m.dialer.running.Go(func() {
		client.Wait() //nolint:errcheck // why it ended is told to its callers
		close(ended)
		closeHop(hop)
		m.drop(client)
	})
	m.dialer.running.Go(func() { watchLife(client, m.dialer.keepalive, ended) })
}

// drop forgets a connection that has ended.
func (m *machine) drop(client *ssh.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.connected == client {
		m.connected = nil
	}
}

// watchLife closes a connection whose other end is silent.
func watchLife(client *ssh.Client, interval time.Duration, ended <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		dead := time.AfterFunc(2*interval, func() { client.Close() }) //nolint:errcheck // it is dead
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		dead.Stop()
		if err != nil {
			client.Close() //nolint:errcheck // it is dead
			return
		}
	}
}

// login logs in, through the bastion where there is one.
func (m *machine) login(ctx context.Context) (client, hop *ssh.Client, err error) {
	e := m.endpoint
	address := net.JoinHostPort(e.Host, first(e.Port, "22"))
	check, algorithms, err := hostKey(e, address)
	if err != nil {
		return nil, nil, &permanentError{err: err}
	}
	signers, err := m.dialer.signers()
	if err != nil {
		return nil, nil, &permanentError{err: err}
	}
	dial := (&net.Dialer{}).DialContext
	if e.Bastion != "" {
		if hop, err = m.dialer.bastion(ctx, e.Bastion); err != nil {
			return nil, nil, err
		}
		dial = hop.DialContext
	}
	config := &ssh.ClientConfig{
		User: first(e.User, m.dialer.options.User, "root"), Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: m.noted(check), HostKeyAlgorithms: algorithms,
	}
	client, err = handshake(ctx, dial, address, config)
	if err != nil {
		closeHop(hop)
		return nil, nil, err
	}
	return client, hop, nil
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// handshake connects and logs in, and gives up when ctx ends.
func handshake(ctx context.Context, dial dialFunc, address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	fail := func(err error) error { return fmt.Errorf("log in to %s@%s: %w", config.User, address, err) }
	connected, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fail(err)
	}
	stop := context.AfterFunc(ctx, func() { connected.Close() }) //nolint:errcheck // it is given up
	c, channels, requests, err := ssh.NewClientConn(connected, address, config)
	if !stop() {
		err = fmt.Errorf("it takes connections, and sshd there says nothing: %w", context.Cause(ctx))
	}
	if err != nil {
		connected.Close() //nolint:errcheck // it is given up
		return nil, classify(fail(err))
	}
	return ssh.NewClient(c, channels, requests), nil
}

func closeHop(hop *ssh.Client) {
	if hop != nil {
		hop.Close() //nolint:errcheck // it carries nothing any more
	}
}

func (m *machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.pending != nil {
		m.pending.cancel()
	}
	if m.connected != nil {
		m.connected.Close() //nolint:errcheck // it carries nothing any more
	}
}

// classify marks what trying again does not mend, and says what does.
func classify(err error) error {
	switch text := err.Error(); {
	case errors.Is(err, errHostKey):
		return &permanentError{err: err, atBoot: true}
	case errors.Is(err, errUnknownHost):
		return &permanentError{err: err}
	// x/crypto has no types for these.
	case strings.Contains(text, "unable to authenticate"), strings.Contains(text, "Too many authentication failures"):
		return &permanentError{err: fmt.Errorf("%w: it takes none of the keys that were offered; set ssh.key to one that it takes", err), atBoot: true}
	case strings.Contains(text, "no common algorithm for host key"):
		return &permanentError{err: fmt.Errorf("%w: it has no ed25519 host key, which every node of skerry has", err), atBoot: true}
	}
	return err
}
