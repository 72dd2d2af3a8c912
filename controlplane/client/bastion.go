package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// bastion logs in to the host that leads to others, as `ssh` does: by what
// ~/.ssh/config says of it, with a key that is in known_hosts.
func (d *Dialer) bastion(ctx context.Context, text string) (*ssh.Client, error) {
	h := d.findHop(text)
	signers, err := d.signers(h.keys...)
	if err != nil {
		return nil, &permanentError{err: fmt.Errorf("log in to bastion %s: %w", text, err)}
	}
	known, err := knownHosts()
	if err != nil {
		return nil, &permanentError{err: fmt.Errorf("log in to bastion %s: %w", text, err)}
	}
	address := net.JoinHostPort(h.host, h.port)
	config := &ssh.ClientConfig{
		User: h.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: known, HostKeyAlgorithms: algorithms(known, address),
	}
	client, err := handshake(ctx, (&net.Dialer{}).DialContext, address, config)
	if err != nil {
		err = fmt.Errorf("bastion %s: %w", text, err)
	}
	var unknown *knownhosts.KeyError
	switch {
	case !errors.As(err, &unknown):
	case len(unknown.Want) == 0:
		err = &permanentError{err: fmt.Errorf("%w; connect to it once with ssh, and check its key", err)}
	default:
		err = &permanentError{err: fmt.Errorf("%w; it is not the machine that %s knows, or has a new key", err, unknown.Want[0].Filename)}
	}
	return client, err
}

// hop is a bastion with what ~/.ssh/config says of it.
type hop struct {
	user, host, port string
	keys             []string
}

// findHop reads `[user@]host[:port]`. What it says goes before ~/.ssh/config.
func (d *Dialer) findHop(text string) hop {
	name, host, found := strings.Cut(text, "@")
	if !found {
		name, host = "", text
	}
	port := ""
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	host = strings.Trim(host, "[]")
	say := d.sshConfig(host)
	if name == "" {
		if current, err := user.Current(); err == nil {
			name = current.Username
		}
		name = first(strings.Join(say("User"), ""), name)
	}
	named := strings.ReplaceAll(strings.Join(say("HostName"), ""), "%h", host)
	return hop{
		user: name, host: first(named, host),
		port: first(port, strings.Join(say("Port"), ""), "22"), keys: say("IdentityFile"),
	}
}

// sshConfig gives what ~/.ssh/config says of a host; nothing where there is
// none, or one that can't be read.
func (d *Dialer) sshConfig(host string) func(keyword string) []string {
	nothing := func(string) []string { return nil }
	path := filepath.Join(home(), ".ssh", "config")
	text, err := os.ReadFile(path)
	if err != nil {
		return nothing
	}
	config, err := ssh_config.DecodeBytes(text)
	if err != nil {
		d.log.Warn("the SSH configuration can't be read, and is passed over", "path", path, "err", err)
		return nothing
	}
	return func(keyword string) []string {
		all, err := config.GetAll(host, keyword)
		switch {
		case err != nil || len(all) == 0:
			return nil
		case ssh_config.SupportsMultiple(keyword):
			return all
		default:
			return all[:1]
		}
	}
}

var errNoKnownHosts = errors.New("its key is not known, for there is no")

// knownHosts reads the files of known host keys: the user's and the machine's.
func knownHosts() (ssh.HostKeyCallback, error) {
	var files []string
	mine := filepath.Join(home(), ".ssh", "known_hosts")
	for _, path := range []string{mine, mine + "2", "/etc/ssh/ssh_known_hosts"} {
		if _, err := os.Stat(path); err == nil {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w %s; connect to it once with ssh, and check its key", errNoKnownHosts, mine)
	}
	known, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("read the known host keys: %w", err)
	}
	return known, nil
}

// algorithms gives the kinds of host key that are known of an address. A
// server has several, and is asked for one that can be checked.
func algorithms(known ssh.HostKeyCallback, address string) []string {
	// A key that nobody has makes the callback tell what it wants instead.
	probe, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var mismatch *knownhosts.KeyError
	if !errors.As(known(address, &net.TCPAddr{}, probe), &mismatch) {
		return nil
	}
	var all []string
	for _, want := range mismatch.Want {
		if want.Key.Type() == ssh.KeyAlgoRSA {
			all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		}
		all = append(all, want.Key.Type())
	}
	return all
}
