package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/skerry-io/skerry/resources"
)

// errHostKey says that a machine showed another key than the endpoint's, and
// errUnknownHost that nothing says which key it should show.
var (
	errHostKey     = errors.New("the machine there shows another host key than the one that the endpoint pins: it is not the node that skerry made")
	errUnknownHost = errors.New("the host key is not known")
)

// hostKey says how a machine is known: by the key that its endpoint pins, or
// else by the user's known_hosts. Nothing is taken on trust.
func hostKey(e resources.Endpoint, address string) (check ssh.HostKeyCallback, kinds []string, err error) {
	if e.HostKey != "" {
		return pinned(e), []string{ssh.KeyAlgoED25519}, nil
	}
	known, err := knownHosts()
	if errors.Is(err, errNoKnownHosts) {
		known, err = func(string, net.Addr, ssh.PublicKey) error { return &knownhosts.KeyError{} }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	kinds = algorithms(known, address)
	if len(kinds) == 0 {
		// The one whose fingerprint an endpoint can pin.
		kinds = []string{ssh.KeyAlgoED25519}
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		var mismatch *knownhosts.KeyError
		if !errors.As(err, &mismatch) {
			return err
		}
		shown := ssh.FingerprintSHA256(key)
		if len(mismatch.Want) > 0 {
			return fmt.Errorf("%w: it shows %s, and %s line %d has another one: it is another machine, or has a new key", errUnknownHost, shown, mismatch.Want[0].Filename, mismatch.Want[0].Line)
		}
		return fmt.Errorf("%w: it shows %s (%s). Compare that with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the machine itself; where it is the same, write ?hostkey=%s at the end of its endpoint, or connect to it once with ssh",
			errUnknownHost, shown, key.Type(), url.QueryEscape(shown))
	}, kinds, nil
}

func pinned(e resources.Endpoint) ssh.HostKeyCallback {
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if shown := ssh.FingerprintSHA256(key); shown != e.HostKey {
			return fmt.Errorf("%w (%s, not %s)", errHostKey, shown, e.HostKey)
		}
		return nil
	}
}

// noted keeps the key that passed the check.
func (m *machine) noted(check ssh.HostKeyCallback) ssh.HostKeyCallback {
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := check(host, remote, key)
		if err == nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.shown = key
		}
		return err
	}
}

// Pin returns the endpoint with the host key that the machine shows, once that
// was checked: others need no known_hosts then. Where that is of a kind that
// endpoints don't pin, the endpoint stays as it is.
func (d *Dialer) Pin(ctx context.Context, e resources.Endpoint) (resources.Endpoint, error) {
	if e.Host == "" || e.HostKey != "" {
		return e, nil
	}
	m := d.machine(e)
	if _, err := m.client(ctx); err != nil {
		return e, err
	}
	m.mu.Lock()
	shown := m.shown
	m.mu.Unlock()
	if shown.Type() == ssh.KeyAlgoED25519 {
		e.HostKey = ssh.FingerprintSHA256(shown)
		d.alias(e, m)
	}
	return e, nil
}
