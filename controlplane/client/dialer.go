package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/skerry-io/skerry/resources"
)

// Options are how a Dialer logs in.
type Options struct {
	// User to log in as where the endpoint names none; root unless given.
	User string
	// Key is the path of a private key. ~/.ssh/id_ed25519, id_ecdsa and id_rsa
	// are tried unless it is given.
	Key string
	// Agent is true where the SSH agent at $SSH_AUTH_SOCK is asked too.
	Agent bool
	Log   *slog.Logger
}

// Dialer holds the connections to machines. Its methods can be called from
// several goroutines.
type Dialer struct {
	options Options
	log     *slog.Logger

	mu          sync.Mutex // guards all below
	machines    map[string]*machine
	connections map[string]*connection
}

// NewDialer makes a dialer. It reaches for nothing before the first call.
func NewDialer(o Options) *Dialer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Dialer{options: o, log: o.Log, machines: map[string]*machine{}, connections: map[string]*connection{}}
}

// connection returns the pooled connection of the endpoints.
func (d *Dialer) connection(endpoints []resources.Endpoint) *connection {
	key := resources.FormatEndpoints(endpoints)
	d.mu.Lock()
	defer d.mu.Unlock()
	c, found := d.connections[key]
	if !found {
		c = d.connect(endpoints)
		d.connections[key] = c
	}
	return c
}

// Close ends every connection.
func (d *Dialer) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.connections {
		c.closeIdle()
	}
	for _, m := range d.machines {
		m.close()
	}
}

// permanentError is a failure that trying again does not mend.
type permanentError struct{ err error }

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

// How long a machine may take to answer: dialTimeout for a connection and a
// login, and keepalive between signs of life, of which two may be missing.
const (
	dialTimeout = 10 * time.Second
	keepalive   = 10 * time.Second
)

func (d *Dialer) dial(ctx context.Context, e resources.Endpoint) (net.Conn, error) {
	if e.Host == "" {
		var dialer net.Dialer
		connected, err := dialer.DialContext(ctx, "unix", e.Socket)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", e.Socket, err)
		}
		return connected, nil
	}
	client, err := d.machine(e).client(ctx)
	if err != nil {
		return nil, err
	}
	connected, err := client.DialContext(ctx, "unix", e.Socket)
	if err != nil {
		return nil, fmt.Errorf("connect to %s on %s: %w", e.Socket, e.Host, err)
	}
	return connected, nil
}

func (d *Dialer) machine(e resources.Endpoint) *machine {
	key := fmt.Sprintf("%s@%s:%s %s via %s", e.User, e.Host, e.Port, e.HostKey, e.Bastion)
	d.mu.Lock()
	defer d.mu.Unlock()
	m, found := d.machines[key]
	if !found {
		m = &machine{dialer: d, endpoint: e}
		d.machines[key] = m
	}
	return m
}

// machine is the one SSH connection to a host.
type machine struct {
	dialer   *Dialer
	endpoint resources.Endpoint

	mu        sync.Mutex // guards the connection, and lets one caller log in
	connected *ssh.Client
	bastion   *ssh.Client
}

func (m *machine) client(ctx context.Context) (*ssh.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.connected != nil {
		return m.connected, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := m.login(ctx)
	if err != nil {
		return nil, err
	}
	m.connected = client
	ended := make(chan struct{})
	go func() {
		client.Wait() //nolint:errcheck // why it ended is told to its callers
		close(ended)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.connected == client {
			m.connected = nil
			m.closeBastion()
		}
	}()
	go watchLife(client, ended)
	return client, nil
}

// watchLife closes a connection whose other end is silent. It ends with it.
func watchLife(client *ssh.Client, ended <-chan struct{}) {
	tick := time.NewTicker(keepalive)
	defer tick.Stop()
	answered := make(chan error, 1)
	missing := 0
	for {
		select {
		case <-ended:
			return
		case <-answered:
			missing = 0
		case <-tick.C:
			if missing++; missing > 2 {
				client.Close() //nolint:errcheck // it is dead
				return
			}
			if missing == 1 {
				go func() {
					_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
					answered <- err
				}()
			}
		}
	}
}

func (m *machine) login(ctx context.Context) (*ssh.Client, error) {
	e := m.endpoint
	auth, err := m.dialer.options.auth()
	if err != nil {
		return nil, &permanentError{err}
	}
	config := &ssh.ClientConfig{
		User: first(e.User, m.dialer.options.User, "root"), Auth: auth,
		HostKeyCallback: pinned(e), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: dialTimeout,
	}
	address := net.JoinHostPort(e.Host, first(e.Port, "22"))
	dial := (&net.Dialer{}).DialContext
	if e.Bastion != "" {
		if m.bastion, err = m.dialer.bastion(ctx, e.Bastion, auth); err != nil {
			return nil, err
		}
		dial = m.bastion.DialContext
	}
	connected, err := dial(ctx, "tcp", address)
	if err == nil {
		var client *ssh.Client
		if client, err = handshake(ctx, connected, address, config); err == nil {
			return client, nil
		}
	}
	m.closeBastion()
	return nil, classify(fmt.Errorf("log in to %s@%s: %w", config.User, address, err))
}

// handshake logs in over a connection, and gives up when ctx ends.
func handshake(ctx context.Context, connected net.Conn, address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	stop := context.AfterFunc(ctx, func() { connected.Close() }) //nolint:errcheck // it is given up
	c, channels, requests, err := ssh.NewClientConn(connected, address, config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		connected.Close() //nolint:errcheck // it is given up
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

func (m *machine) closeBastion() {
	if m.bastion != nil {
		m.bastion.Close() //nolint:errcheck // it carries nothing any more
		m.bastion = nil
	}
}

func (m *machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.connected != nil {
		m.connected.Close() //nolint:errcheck // it carries nothing any more
	}
}

// bastion logs in to the host that leads to others. Its key has to be in the
// user's known_hosts, as it is for ssh and for libvirt's qemu+ssh.
func (d *Dialer) bastion(ctx context.Context, text string, auth []ssh.AuthMethod) (*ssh.Client, error) {
	name, host, found := strings.Cut(text, "@")
	if !found {
		name, host = "", text
	}
	if name == "" {
		if current, err := user.Current(); err == nil {
			name = current.Username
		}
	}
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(strings.Trim(host, "[]"), "22")
	}
	known, err := knownhosts.New(filepath.Join(home(), ".ssh", "known_hosts"))
	if err != nil {
		return nil, &permanentError{fmt.Errorf("check the key of bastion %s: %w; connect to it once with ssh", host, err)}
	}
	connected, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to bastion %s: %w", address, err)
	}
	client, err := handshake(ctx, connected, address, &ssh.ClientConfig{User: name, Auth: auth, HostKeyCallback: known, Timeout: dialTimeout})
	if err != nil {
		return nil, classify(fmt.Errorf("log in to bastion %s@%s: %w", name, address, err))
	}
	return client, nil
}

// errHostKey says that a machine showed another key than the endpoint's.
var errHostKey = errors.New("the machine there shows another host key than the one that the endpoint pins: it is not the node that skerry made")

func pinned(e resources.Endpoint) ssh.HostKeyCallback {
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if e.HostKey == "" {
			return errors.New("the endpoint has no hostkey; take the whole endpoint")
		}
		if ssh.FingerprintSHA256(key) != e.HostKey {
			return fmt.Errorf("%w (%s, not %s)", errHostKey, ssh.FingerprintSHA256(key), e.HostKey)
		}
		return nil
	}
}

// classify marks what no retry mends. A refused login may be one: at a node's
// first boot its sshd can be up before its keys are, so those are tried again.
func classify(err error) error {
	var revoked *knownhosts.KeyError
	if errors.As(err, &revoked) {
		return &permanentError{fmt.Errorf("%w; connect to it once with ssh, and check its key", err)}
	}
	return err
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func home() string {
	dir, err := os.UserHomeDir()
	if err != nil {
		return "/"
	}
	return dir
}
