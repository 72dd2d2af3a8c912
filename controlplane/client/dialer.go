package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

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
	options   Options
	log       *slog.Logger
	keepalive time.Duration
	running   sync.WaitGroup // the goroutines of all machines; Close waits for them
	agent     sshAgent

	mu          sync.Mutex // guards all below
	machines    map[string]*machine
	connections map[string]*connection
	members     []*connection
	closed      bool
}

// NewDialer makes a dialer. It reaches for nothing before the first call.
func NewDialer(o Options) *Dialer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Dialer{
		options: o, log: o.Log, keepalive: keepalive,
		machines: map[string]*machine{}, connections: map[string]*connection{},
	}
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

// Close ends every connection. Calls after it fail.
func (d *Dialer) Close() {
	d.mu.Lock()
	d.closed = true
	for _, c := range d.connections {
		c.closeIdle()
	}
	for _, c := range d.members {
		c.closeIdle()
	}
	for _, m := range d.machines {
		m.close()
	}
	d.mu.Unlock()
	d.running.Wait()
	d.agent.close()
}

var errClosed = errors.New("the connections were closed")

// permanentError is a failure that trying again does not mend.
type permanentError struct {
	err error
	// atBoot is true where the first boot of a machine mends it after all.
	atBoot bool
}

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

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
	if refused := new(ssh.OpenChannelError); errors.As(err, &refused) && first(e.User, d.options.User, "root") != "root" {
		// The sockets of a node are root's.
		return dialAsRoot(ctx, client, e)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s on %s: %w", e.Socket, e.Host, err)
	}
	return connected, nil
}

// machineKey tells the machines of a dialer apart.
func machineKey(e resources.Endpoint) string {
	return fmt.Sprintf("%s@%s:%s %s via %s", e.User, e.Host, e.Port, e.HostKey, e.Bastion)
}

// alias lets another endpoint use the connection of a machine.
func (d *Dialer) alias(e resources.Endpoint, m *machine) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if key := machineKey(e); d.machines[key] == nil {
		d.machines[key] = m
	}
}

func (d *Dialer) machine(e resources.Endpoint) *machine {
	key := machineKey(e)
	d.mu.Lock()
	defer d.mu.Unlock()
	m, found := d.machines[key]
	if !found {
		m = &machine{dialer: d, endpoint: e, closed: d.closed}
		d.machines[key] = m
	}
	return m
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
