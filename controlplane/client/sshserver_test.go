package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/resources"
)

// sshServer is an sshd for tests: it takes public keys only, and forwards to
// unix sockets (direct-streamlocal@openssh.com) and to TCP (direct-tcpip).
type sshServer struct {
	address string
	key     ssh.Signer
	logins  atomic.Int32
	tries   atomic.Int32
	running sync.WaitGroup

	mu       sync.Mutex // guards all below
	accepted []ssh.PublicKey
	tried    func(int32) // called before each connection is served
	shown    []ssh.Signer
	conns    map[net.Conn]struct{}
	// frozen makes the server read and answer nothing, and keep every
	// connection, as a machine does that hangs.
	frozen bool
	thawed chan struct{}
}

func newSSHServer(t *testing.T, accepted ...ssh.PublicKey) *sshServer {
	t.Helper()
	s := &sshServer{accepted: accepted, key: newKey(t), conns: map[net.Conn]struct{}{}, thawed: make(chan struct{})}
	s.show(s.key)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.running.Go(func() { s.accept(listener) })
	t.Cleanup(func() {
		listener.Close() //nolint:errcheck // the test is over
		close(s.thawed)
		s.kill()
		s.running.Wait()
	})
	return s
}

func (s *sshServer) check(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.accepted {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			return &ssh.Permissions{}, nil
		}
	}
	return nil, errors.New("an unknown key")
}

func (s *sshServer) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		try := s.tries.Add(1)
		s.mu.Lock()
		s.conns[c] = struct{}{}
		tried := s.tried
		s.mu.Unlock()
		if tried != nil {
			tried(try)
		}
		s.running.Go(func() { s.serve(icy{c, s}) })
	}
}

func (s *sshServer) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // it is over
	config := &ssh.ServerConfig{PublicKeyCallback: s.check}
	s.mu.Lock()
	for _, key := range s.shown {
		config.AddHostKey(key)
	}
	s.mu.Unlock()
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	s.logins.Add(1)
	s.running.Go(func() { ssh.DiscardRequests(requests) })
	for channel := range channels {
		s.running.Go(func() { s.forward(channel) })
	}
	conn.Wait() //nolint:errcheck // it is over
}

func (s *sshServer) forward(request ssh.NewChannel) {
	// RFC 4254, 7.2, and OpenSSH's PROTOCOL, 2.4: both begin so.
	var to struct {
		Path string
		Rest []byte `ssh:"rest"`
	}
	var tcp struct {
		Host string
		Port uint32
		Rest []byte `ssh:"rest"`
	}
	network, address := "unix", ""
	var err error
	switch request.ChannelType() {
	case "direct-streamlocal@openssh.com":
		err = ssh.Unmarshal(request.ExtraData(), &to)
		address = to.Path
	case "direct-tcpip":
		err = ssh.Unmarshal(request.ExtraData(), &tcp)
		network, address = "tcp", net.JoinHostPort(tcp.Host, strconv.Itoa(int(tcp.Port)))
	default:
		err = errors.New("no such channel")
	}
	var target net.Conn
	if err == nil {
		target, err = net.Dial(network, address)
	}
	if err != nil {
		request.Reject(ssh.ConnectionFailed, err.Error()) //nolint:errcheck // the client has gone
		return
	}
	defer target.Close() //nolint:errcheck // it is over
	channel, requests, err := request.Accept()
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

// kill breaks every connection.
func (s *sshServer) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close() //nolint:errcheck // it is meant to break
		delete(s.conns, c)
	}
}

func (s *sshServer) setFrozen(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = frozen
}

// onTry calls f before the server greets each new connection.
func (s *sshServer) onTry(f func(try int32)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = f
}

// show sets the host keys that the server shows.
func (s *sshServer) show(keys ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = keys
}

func (s *sshServer) accepts(keys ...ssh.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = keys
}

// endpoint is the way to a socket through the server.
func (s *sshServer) endpoint(socket string) resources.Endpoint {
	host, port, _ := net.SplitHostPort(s.address)
	return resources.Endpoint{
		Host: host, Port: port, User: "root", Socket: socket, Node: "n1",
		HostKey: ssh.FingerprintSHA256(s.key.PublicKey()),
	}
}

// icy is a connection that loses what arrives while its server is frozen.
type icy struct {
	net.Conn
	server *sshServer
}

func (c icy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.server.mu.Lock()
	frozen := c.server.frozen
	c.server.mu.Unlock()
	if frozen && err == nil {
		<-c.server.thawed
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newRSAKey(t *testing.T) ssh.Signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// writeKey makes a private key file, with a passphrase unless that is empty.
func writeKey(t *testing.T, path, passphrase string) ssh.Signer {
	t.Helper()
	signer, _ := writeRawKey(t, path, passphrase)
	return signer
}

// writeRawKey is writeKey, with the key as an SSH agent takes it.
func writeRawKey(t *testing.T, path, passphrase string) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(block)))
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// shortDir is a directory for unix sockets, whose paths are short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skerry") //nolint:usetesting // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
