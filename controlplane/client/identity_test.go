package client

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

func authorized(keys ...ssh.Signer) []string {
	var lines []string
	for _, k := range keys {
		lines = append(lines, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))))
	}
	return lines
}

// keyring serves an SSH agent with the keys of files.
func keyring(t *testing.T, keys ...any) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(shortDir(t), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) //nolint:errcheck // the test is over
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()           //nolint:errcheck // it is over
				agent.ServeAgent(ring, c) //nolint:errcheck // it ends with its client
			}()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
}

func TestPublicKeys(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	at := func(name string) string { return filepath.Join(dir, ".ssh", name) }
	ed, raw := writeRawKey(t, at("id_ed25519"), "")
	rsa, _ := writeRawKey(t, at("id_rsa"), "")
	given, _ := writeRawKey(t, at("work"), "")
	locked, lockedRaw := writeRawKey(t, at("locked"), "secret")
	other, otherRaw := writeRawKey(t, filepath.Join(dir, "elsewhere"), "")
	keyring(t, otherRaw, raw, lockedRaw)
	for _, c := range []struct {
		name    string
		options Options
		want    []string
	}{
		{"the default files", Options{}, authorized(ed, rsa)},
		{"the agent and the default files, each key once", Options{Agent: true}, authorized(other, ed, locked, rsa)},
		{"one file", Options{Key: at("work"), Agent: true}, authorized(given)},
		{"a file below the home", Options{Key: "~/.ssh/work"}, authorized(given)},
		{"a locked file that the agent holds", Options{Key: at("locked"), Agent: true}, authorized(locked)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dialer(t, c.options)
			for range 2 {
				got, err := d.PublicKeys()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("keys (-want +got):\n%s", diff)
				}
			}
		})
	}
	t.Run("a locked file", func(t *testing.T) {
		_, err := dialer(t, Options{Key: at("locked")}).PublicKeys()
		mention(t, err, at("locked"), "has a passphrase", "ssh-add", "ssh.agent")
	})
}

func TestNoUsableKey(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(dir, "nobody"))
	at := func(name string) string { return filepath.Join(dir, ".ssh", name) }
	_, err := dialer(t, Options{Agent: true}).PublicKeys()
	mention(t, err, "there is no SSH key", "ssh-keygen", "ssh.key")
	_, err = dialer(t, Options{Key: "~/.ssh/absent"}).PublicKeys()
	mention(t, err, "ssh.key", at("absent"), "no such file")
	write(t, at("note"), "milk, bread\n")
	_, err = dialer(t, Options{Key: at("note")}).PublicKeys()
	mention(t, err, at("note"), "is not a private key")
	if strings.Contains(err.Error(), "milk") {
		t.Error("the error shows what is in the file")
	}
	writeKey(t, at("id_ed25519"), "secret")
	_, err = dialer(t, Options{}).PublicKeys()
	mention(t, err, at("id_ed25519"), "has a passphrase")
}

// The keys of the agent log in, many times over one connection to it.
func TestLoginWithTheAgent(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	key, raw := writeRawKey(t, filepath.Join(dir, "elsewhere"), "")
	keyring(t, raw)
	sshd := newSSHServer(t, key.PublicKey())
	a := dialer(t, Options{Agent: true}).Agent(sshd.endpoint(node(t).socket))
	for range 3 {
		if _, err := a.Node(t.Context()); err != nil {
			t.Fatal(err)
		}
		sshd.kill()
	}
}

// know writes the server's host key into known_hosts.
func know(t *testing.T, home, address string, key ssh.PublicKey) {
	t.Helper()
	write(t, filepath.Join(home, ".ssh", "known_hosts"), knownhosts.Line([]string{address}, key)+"\n")
}

func TestBastion(t *testing.T) {
	d, key := atHome(t)
	inner, outer := newSSHServer(t, key.PublicKey()), newSSHServer(t, key.PublicKey())
	endpoint := inner.endpoint(node(t).socket)
	endpoint.Bastion = "me@" + outer.address
	a := d.Agent(endpoint)

	_, err := a.Node(t.Context())
	mention(t, err, "bastion me@"+outer.address, "known_hosts", "connect to it once with ssh")

	know(t, home(), "10.9.8.7:22", newKey(t).PublicKey())
	_, err = a.Node(t.Context())
	mention(t, err, "bastion me@"+outer.address, "connect to it once with ssh")

	know(t, home(), outer.address, newKey(t).PublicKey())
	_, err = a.Node(t.Context())
	mention(t, err, "bastion me@"+outer.address, "it is not the machine that", "known_hosts")
	if got := outer.tries.Load(); got != 2 {
		t.Errorf("a bastion that can't be trusted was tried %d times, want once for each call", got)
	}

	know(t, home(), outer.address, outer.key.PublicKey())
	for range 2 {
		if info, err := a.Node(t.Context()); err != nil || info.Name != "one" {
			t.Fatalf("%+v, %v", info, err)
		}
		outer.kill()
	}
	if inner.logins.Load() != 2 {
		t.Errorf("%d logins behind the bastion, want 2", inner.logins.Load())
	}
}

// A bastion has host keys of several kinds; the one that is known is asked for.
func TestBastionWithAnotherKindOfKey(t *testing.T) {
	d, key := atHome(t)
	inner, outer := newSSHServer(t, key.PublicKey()), newSSHServer(t, key.PublicKey())
	rsa := newRSAKey(t)
	outer.show(outer.key, rsa)
	know(t, home(), outer.address, rsa.PublicKey())
	endpoint := inner.endpoint(node(t).socket)
	endpoint.Bastion = "me@" + outer.address
	if _, err := d.Agent(endpoint).Node(t.Context()); err != nil {
		t.Error(err)
	}
}

// A bastion is called as ssh calls it: by what ~/.ssh/config says.
func TestBastionOfTheSSHConfig(t *testing.T) {
	d, _ := atHome(t)
	key := writeKey(t, filepath.Join(home(), ".ssh", "work"), "")
	mine, err := ssh.ParsePrivateKey(readFile(t, filepath.Join(home(), ".ssh", "id_ed25519")))
	if err != nil {
		t.Fatal(err)
	}
	inner, outer := newSSHServer(t, mine.PublicKey()), newSSHServer(t, key.PublicKey())
	host, port, _ := net.SplitHostPort(outer.address)
	know(t, home(), outer.address, outer.key.PublicKey())
	write(t, filepath.Join(home(), ".ssh", "config"),
		"Host big\n  HostName "+host+"\n  Port "+port+"\n  User ops\n  IdentityFile ~/.ssh/work\n\nHost *\n  User nobody\n")
	if got := d.findHop("big"); got.user != "ops" {
		t.Errorf("the user is %s", got.user)
	}
	if got := d.findHop("me@big:2200"); got.user != "me" || got.port != "2200" || got.host != host {
		t.Errorf("what is said goes before the configuration: %+v", got)
	}
	endpoint := inner.endpoint(node(t).socket)
	endpoint.Bastion = "big"
	if _, err := d.Agent(endpoint).Node(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFindHop(t *testing.T) {
	d, _ := atHome(t)
	for text, want := range map[string]hop{
		"me@big":             {user: "me", host: "big", port: "22"},
		"me@big:2222":        {user: "me", host: "big", port: "2222"},
		"me@[fd00::1]":       {user: "me", host: "fd00::1", port: "22"},
		"me@[fd00::1]:2222":  {user: "me", host: "fd00::1", port: "2222"},
		"me@192.168.1.1:222": {user: "me", host: "192.168.1.1", port: "222"},
	} {
		if diff := cmp.Diff(want, d.findHop(text), cmp.AllowUnexported(hop{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
