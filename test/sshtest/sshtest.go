// Package sshtest is an sshd for tests that need no real one: it takes one key,
// runs commands, and forwards to unix sockets. The commands run where the test
// says, as in a namespace that stands for a machine.
package sshtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Server is a running sshd.
type Server struct {
	// Host and Port that it listens on.
	Host, Port string
	// HostKey that it shows, and its Fingerprint.
	HostKey     ssh.PublicKey
	Fingerprint string

	options  Options
	config   *ssh.ServerConfig
	accepted ssh.PublicKey
	running  sync.WaitGroup

	mu    sync.Mutex // guards both
	conns map[net.Conn]struct{}
	ran   []string
}

// Options are what a server does.
type Options struct {
	// Command gives the process that runs a command line; sh here unless given.
	Command func(line string) *exec.Cmd
	// Socket gives the path here of a unix socket of the machine, or an error
	// where it can't be opened; the same path unless given.
	Socket func(path string) (string, error)
}

// Login makes a HOME with a key to log in with, and without known hosts.
func Login(t testing.TB) ssh.PublicKey {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	mine, private := newKey(t)
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, ".ssh", "id_ed25519")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return mine.PublicKey()
}

// Start starts a server that takes the key, and ends with the test.
func Start(t testing.TB, accepted ssh.PublicKey, o Options) *Server {
	t.Helper()
	s := &Server{options: o, accepted: accepted, config: &ssh.ServerConfig{}, conns: map[net.Conn]struct{}{}}
	key, _ := newKey(t)
	s.HostKey, s.Fingerprint = key.PublicKey(), ssh.FingerprintSHA256(key.PublicKey())
	s.config.PublicKeyCallback = s.check
	s.config.AddHostKey(key)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Host, s.Port, _ = net.SplitHostPort(listener.Addr().String())
	s.running.Go(func() { s.accept(listener) })
	t.Cleanup(func() {
		listener.Close() //nolint:errcheck // the test is over
		s.Break()
		s.running.Wait()
	})
	return s
}

func newKey(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

// Know puts the host key into known_hosts.
func (s *Server) Know(t testing.TB) {
	t.Helper()
	line := knownhosts.Line([]string{net.JoinHostPort(s.Host, s.Port)}, s.HostKey)
	file, err := os.OpenFile(filepath.Join(os.Getenv("HOME"), ".ssh", "known_hosts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.WriteString(line + "\n")
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Ran lists the command lines that it ran, in their order.
func (s *Server) Ran() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ran...)
}

// Break breaks every connection.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close() //nolint:errcheck // it is meant to break
		delete(s.conns, c)
	}
}

func (s *Server) check(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if !bytes.Equal(key.Marshal(), s.accepted.Marshal()) {
		return nil, errors.New("an unknown key")
	}
	return &ssh.Permissions{}, nil
}

func (s *Server) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.running.Go(func() { s.serve(c) })
	}
}

func (s *Server) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // it is over
	_, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	s.running.Go(func() { ssh.DiscardRequests(requests) })
	for channel := range channels {
		s.running.Go(func() {
			switch channel.ChannelType() {
			case "session":
				s.session(channel)
			case "direct-streamlocal@openssh.com":
				s.forward(channel)
			default:
				channel.Reject(ssh.UnknownChannelType, "no such channel") //nolint:errcheck // the client has gone
			}
		})
	}
}

// session runs the one command of a session (RFC 4254, 6.5 and 6.10).
func (s *Server) session(opened ssh.NewChannel) {
	channel, requests, err := opened.Accept()
	if err != nil {
		return
	}
	defer channel.Close() //nolint:errcheck // it is over
	for r := range requests {
		var exec struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &exec) != nil {
			r.Reply(false, nil) //nolint:errcheck // the client has gone
			continue
		}
		r.Reply(true, nil) //nolint:errcheck // the client has gone
		s.mu.Lock()
		s.ran = append(s.ran, exec.Command)
		s.mu.Unlock()
		status := struct{ Status uint32 }{s.run(exec.Command, channel)}
		channel.SendRequest("exit-status", false, ssh.Marshal(status)) //nolint:errcheck // the client has gone
		return
	}
}

func (s *Server) run(line string, channel ssh.Channel) (status uint32) {
	command := exec.Command("sh", "-c", line)
	if s.options.Command != nil {
		command = s.options.Command(line)
	}
	command.Stdout, command.Stderr = channel, channel.Stderr()
	// Not Stdin: what a command has not read keeps nobody waiting.
	in, err := command.StdinPipe()
	if err != nil {
		return 255
	}
	s.running.Go(func() {
		io.Copy(in, channel) //nolint:errcheck // the command has ended
		in.Close()           //nolint:errcheck // the command has ended
	})
	err = command.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return uint32(exit.ExitCode())
	}
	if err != nil {
		return 255
	}
	return 0
}

// forward leads to a unix socket (OpenSSH's PROTOCOL, 2.4).
func (s *Server) forward(opened ssh.NewChannel) {
	var to struct {
		Path string
		Rest []byte `ssh:"rest"`
	}
	err := ssh.Unmarshal(opened.ExtraData(), &to)
	if err == nil && s.options.Socket != nil {
		to.Path, err = s.options.Socket(to.Path)
	}
	var target net.Conn
	if err == nil {
		target, err = net.Dial("unix", to.Path)
	}
	if err != nil {
		// sshd gives no reason either.
		opened.Reject(ssh.ConnectionFailed, "open failed") //nolint:errcheck // the client has gone
		return
	}
	defer target.Close() //nolint:errcheck // it is over
	channel, requests, err := opened.Accept()
	if err != nil {
		return
	}
	s.running.Go(func() { ssh.DiscardRequests(requests) })
	s.running.Go(func() {
		io.Copy(target, channel) //nolint:errcheck // it is over
		target.Close()           //nolint:errcheck // it is over
	})
	io.Copy(channel, target) //nolint:errcheck // it is over
	channel.Close()          //nolint:errcheck // it is over
}
