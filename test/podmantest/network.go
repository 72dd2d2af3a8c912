package podmantest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Client gives an HTTP client that reaches the ports that the service's
// containers publish, as http://127.0.0.1:PORT. It keeps no connection.
func (s *Service) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = InNamespace("/run/netns/"+s.Namespace, func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
}

// Listen listens inside the service's namespace, where Podman and its
// containers find it; a registry, for example. It is closed with the test.
func (s *Service) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := InNamespace("/run/netns/"+s.Namespace, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// InNamespace calls f on a thread inside the network namespace of a file. Sockets that f
// makes stay there; f must make them itself, in no other goroutine, so
// addresses are IP addresses.
func InNamespace(path string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so it ends with this goroutine and
		// nobody else is run in the namespace.
		runtime.LockOSThread()
		fd, err := os.Open(path)
		if err != nil {
			result <- err
			return
		}
		defer func() { _ = fd.Close() }()
		if err := unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// awaitAnswer returns once the service answers a ping.
func (s *Service) awaitAnswer(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(s.Socket, "unix://"))
		},
	}}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podman/_ping", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-look.C:
		case <-s.exited:
			return errors.New("the service ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
