package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// defaultKeys are the private keys that ssh itself looks for, in ~/.ssh.
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// signers returns the keys to log in with: that of the options, or those of the
// home directory and of the SSH agent.
func (o Options) signers() ([]ssh.Signer, error) {
	if o.Key != "" {
		signer, err := readKey(o.Key)
		if err != nil {
			return nil, err
		}
		return []ssh.Signer{signer}, nil
	}
	var all []ssh.Signer
	if o.Agent {
		all = append(all, agentSigners()...)
	}
	var unreadable error
	for _, name := range defaultKeys {
		signer, err := readKey(filepath.Join(home(), ".ssh", name))
		switch {
		case err == nil:
			all = append(all, signer)
		case !errors.Is(err, os.ErrNotExist):
			unreadable = err
		}
	}
	if len(all) == 0 {
		if unreadable != nil {
			return nil, unreadable
		}
		return nil, errors.New("there is no SSH key to log in to nodes with: make one with ssh-keygen -t ed25519, start ssh-agent, or set ssh.key in the provider")
	}
	return all, nil
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
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("the SSH key %s has a passphrase: add it to ssh-agent with ssh-add", path)
	case err != nil:
		return nil, fmt.Errorf("read the SSH key %s: it is not a private key in OpenSSH's or PEM form", path)
	}
	return signer, nil
}

// agentSigners returns the keys of the SSH agent, or none where none answers.
func agentSigners() []ssh.Signer {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil
	}
	connected, err := net.Dial("unix", socket)
	if err != nil {
		return nil
	}
	// The signers sign over the connection, which lives as long as the process.
	signers, err := agent.NewClient(connected).Signers()
	if err != nil {
		connected.Close() //nolint:errcheck // it is of no use
		return nil
	}
	return signers
}

func (o Options) auth() ([]ssh.AuthMethod, error) {
	signers, err := o.signers()
	if err != nil {
		return nil, err
	}
	return []ssh.AuthMethod{ssh.PublicKeys(signers...)}, nil
}

// PublicKeys returns the public halves of the keys that the dialer logs in
// with, as lines of authorized_keys.
func (d *Dialer) PublicKeys() ([]string, error) {
	signers, err := d.options.signers()
	if err != nil {
		return nil, err
	}
	lines := make([]string, len(signers))
	for i, signer := range signers {
		lines[i] = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	}
	return lines, nil
}
