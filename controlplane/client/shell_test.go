package client

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/sshtest"
)

// given is a machine as its user names it.
func given(s *sshtest.Server) resources.Endpoint {
	return resources.Endpoint{Host: s.Host, Port: s.Port, Socket: resources.AgentSocket}
}

func TestRun(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{})
	s.Know(t)
	d := dialer(t, Options{})
	got, err := d.Run(t.Context(), given(s), `read a; echo "it's $a"`, strings.NewReader("here\n"))
	if err != nil || got != "it's here\n" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = d.Run(t.Context(), given(s), "echo it is full >&2; exit 3", nil)
	if err == nil || IsUnreachable(err) || !strings.Contains(err.Error(), "it is full (exit status 3)") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	end := filepath.Join(t.TempDir(), "end")
	cancel(errors.New("it is given up"))
	if _, err := d.Run(ctx, given(s), "while [ ! -e "+end+" ]; do sleep 0.05; done", nil); err == nil || !strings.Contains(err.Error(), "it is given up") {
		t.Error(err)
	}
	write(t, end, "")
}

// A connection that broke since the last call costs another login, and no error.
func TestRunAfterABreak(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{})
	s.Know(t)
	d := dialer(t, Options{})
	for range 5 {
		if got, err := d.Run(t.Context(), given(s), "echo ran", nil); err != nil || got != "ran\n" {
			t.Fatalf("%q, %v", got, err)
		}
		s.Break()
	}
}

func TestRunAsRoot(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{Command: func(line string) *exec.Cmd {
		return exec.Command("sh", "-c", "sudo() { echo sudo; shift; \"$@\"; }; "+line)
	}})
	s.Know(t)
	d := dialer(t, Options{})
	for user, want := range map[string]string{"": "ran\n", "root": "ran\n", "admin": "sudo\nran\n"} {
		e := given(s)
		e.User = user
		if got, err := d.RunAsRoot(t.Context(), e, "echo ran", nil); err != nil || got != want {
			t.Errorf("%q: %q, %v", user, got, err)
		}
	}
}

// What root's socket refuses to a user, sudo opens.
func TestASocketIsOpenedBySudo(t *testing.T) {
	socket := node(t).socket
	// The end of skerry dial, played by a program that this machine has.
	play := `sudo() { printf 'connected\n'; exec python3 -c '
import socket, sys, threading, os
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def up():
    while True:
        b = os.read(0, 65536)
        if not b: break
        s.sendall(b)
    s.shutdown(socket.SHUT_RDWR)
threading.Thread(target=up, daemon=True).start()
while True:
    b = s.recv(65536)
    if not b: break
    os.write(1, b)
' "$4"; }; `
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{
		Command: func(line string) *exec.Cmd { return exec.Command("sh", "-c", play+line) },
		Socket:  func(string) (string, error) { return "", os.ErrPermission },
	})
	s.Know(t)
	d := dialer(t, Options{})
	e := given(s)
	e.User, e.Socket = "admin", socket
	info, err := d.Agent(e).Node(t.Context())
	if err != nil || info.Name != "one" {
		t.Fatalf("%+v, %v", info, err)
	}
	if got := s.Ran(); len(got) != 1 || got[0] != "sudo -n /usr/local/bin/skerry dial '"+socket+"'" {
		t.Errorf("%q", got)
	}
	e.User = "root"
	if _, err := d.Agent(e).Node(t.Context()); !IsUnreachable(err) {
		t.Errorf("root needs no sudo: %v", err)
	}
}

// A machine whose key nothing says is not logged in to, and the error says how
// to pin it: as it stands there, the text makes it known.
func TestAnUnknownHostKeyIsPrinted(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{})
	d := dialer(t, Options{})
	_, err := d.Run(t.Context(), given(s), "true", nil)
	if !IsUnreachable(err) || !strings.Contains(err.Error(), s.Fingerprint) || len(s.Ran()) > 0 {
		t.Fatalf("%v; it ran %q", err, s.Ran())
	}
	_, rest, _ := strings.Cut(err.Error(), "?hostkey=")
	pin, _, _ := strings.Cut(rest, " ")
	e, err := resources.ParseEndpoint("ssh://" + s.Host + ":" + s.Port + "?hostkey=" + pin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Run(t.Context(), e, "true", nil); err != nil {
		t.Error(err)
	}
	// As ssh-keygen prints it, it does as well.
	if plain, err := url.QueryUnescape(pin); err != nil || plain != s.Fingerprint {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestAKnownHostKeyThatChanged(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{})
	line := knownhosts.Line([]string{s.Host + ":" + s.Port}, newKey(t).PublicKey())
	write(t, filepath.Join(os.Getenv("HOME"), ".ssh", "known_hosts"), line+"\n")
	_, err := dialer(t, Options{}).Run(t.Context(), given(s), "true", nil)
	if err == nil || !strings.Contains(err.Error(), "known_hosts line 1 has another one") {
		t.Error(err)
	}
}

// Others need no known_hosts: the endpoint that they get pins the key.
func TestPin(t *testing.T) {
	s := sshtest.Start(t, sshtest.Login(t), sshtest.Options{})
	s.Know(t)
	d := dialer(t, Options{})
	e, err := d.Pin(t.Context(), given(s))
	if err != nil || e.HostKey != s.Fingerprint {
		t.Errorf("%s, %v", e, err)
	}
}
