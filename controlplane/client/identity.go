package client

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// defaultKeys are the private keys that ssh itself looks for, in ~/.ssh.
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// lockedError is a private key behind a passphrase.
type lockedError struct {
	path string
	// public is the key's other half, or nil where nothing tells it.
	public ssh.PublicKey
}

func (l *lockedError) Error() string {
	return fmt.Sprintf("the SSH key %s has a passphrase: add it to ssh-agent with ssh-add, and set ssh.agent", l.path)
}

// signers returns the keys to log in with, each once: that of the options, or
// those of the SSH agent and the home directory, after the preferred ones.
func (d *Dialer) signers(preferred ...string) ([]ssh.Signer, error) {
	var inAgent []ssh.Signer
	if d.options.Agent {
		inAgent = d.agent.signers()
	}
	if d.options.Key != "" {
		signer, err := findKey(d.options.Key, inAgent)
		if err != nil {
			return nil, err
		}
		return []ssh.Signer{signer}, nil
	}
	var all []ssh.Signer
	var unusable error
	add := func(path string) {
		signer, err := findKey(path, inAgent)
		switch {
		case err == nil:
			all = append(all, signer)
		case !errors.Is(err, os.ErrNotExist):
			unusable = err
		}
	}
	for _, path := range preferred {
		add(path)
	}
	all = append(all, inAgent...)
	for _, name := range defaultKeys {
		add(filepath.Join(home(), ".ssh", name))
	}
	if len(all) == 0 {
		if unusable != nil {
			return nil, unusable
		}
		return nil, errors.New("there is no SSH key to log in to nodes with: make one with ssh-keygen -t ed25519, start ssh-agent, or set ssh.key in the provider")
	}
	return unique(all), nil
}

// findKey reads a private key, or finds it in the SSH agent where it has a
// passphrase.
func findKey(path string, inAgent []ssh.Signer) (ssh.Signer, error) {
	signer, err := readKey(path)
	var locked *lockedError
	if !errors.As(err, &locked) || locked.public == nil {
		return signer, err
	}
	for _, s := range inAgent {
		if same(s.PublicKey(), locked.public) {
			return s, nil
		}
	}
	return nil, err
}

func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// unique drops what is there already: a key in a file may be in the agent too,
// and sshd counts each offer as an attempt.
func unique(all []ssh.Signer) []ssh.Signer {
	var kept []ssh.Signer
	for _, s := range all {
		if !slices.ContainsFunc(kept, func(k ssh.Signer) bool { return same(k.PublicKey(), s.PublicKey()) }) {
			kept = append(kept, s)
		}
	}
	return kept
}

func readKey(path string) (ssh.Signer, error) {
	if rest, found := strings.CutPrefix(path, "~/"); found {
		path = filepath.Join(home(), rest)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the SSH key (ssh.key): %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing):
		return nil, &lockedError{path: path, public: publicHalf(path, missing.PublicKey)}
	case err != nil:
		return nil, fmt.Errorf("read the SSH key %s: it is not a private key in OpenSSH's or PEM form", path)
	}
	return signer, nil
}

// publicHalf gives the public key of a locked file: the one in it, or else the
// one beside it.
func publicHalf(path string, inside ssh.PublicKey) ssh.PublicKey {
	if inside != nil {
		return inside
	}
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		return nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return public
}

// sshAgent is the connection to the SSH agent. Its keys sign over it, so it
// stays open.
type sshAgent struct {
	mu        sync.Mutex // guards both
	connected net.Conn
	client    agent.Agent // over connected; it sends one request at a time
}

// signers returns the keys of the agent, or none where none answers.
func (a *sshAgent) signers() []ssh.Signer {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// The second attempt is for an agent that was started again.
	for range 2 {
		if a.connected == nil {
			connected, err := net.Dial("unix", socket)
			if err != nil {
				return nil
			}
			a.connected, a.client = connected, agent.NewClient(connected)
		}
		signers, err := a.client.Signers()
		if err == nil {
			return signers
		}
		a.connected.Close() //nolint:errcheck // it is of no use
		a.connected = nil
	}
	return nil
}

func (a *sshAgent) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connected != nil {
		a.connected.Close() //nolint:errcheck // it carries nothing any more
		a.connected = nil
	}
}

// PublicKeys returns the public halves of the keys that the dialer logs in
// with, as lines of authorized_keys.
func (d *Dialer) PublicKeys() ([]string, error) {
	signers, err := d.signers()
	if err != nil {
		return nil, err
	}
	lines := make([]string, len(signers))
	for i, signer := range signers {
		lines[i] = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	}
	return lines, nil
}
