package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAPI answers on a unix socket.
type fakeAPI struct {
	socket string
	server *http.Server
	dialed atomic.Int32 // connections so far
}

func serve(t *testing.T, handler http.Handler) *fakeAPI {
	t.Helper()
	f := &fakeAPI{socket: filepath.Join(shortDir(t), "s")}
	f.start(t, handler)
	return f
}

func (f *fakeAPI) start(t *testing.T, handler http.Handler) {
	t.Helper()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		f.dialed.Add(1)
		return ctx
	}}
	go f.server.Serve(listener)            //nolint:errcheck // it ends with Close
	t.Cleanup(func() { f.server.Close() }) //nolint:errcheck // it ends with the test
}

// node serves the API of an agent.
func node(t *testing.T) *fakeAPI {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /v1/node", api.Handler(func(*http.Request) (any, error) { return resources.NodeInfo{ID: "n1", Name: "one"}, nil }))
	return serve(t, mux)
}

// atHome makes a home with a key, which it returns, and a dialer that uses it.
func atHome(t *testing.T) (*Dialer, ssh.Signer) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("SSH_AUTH_SOCK", "")
	key := writeKey(t, filepath.Join(dir, ".ssh", "id_ed25519"), "")
	return dialer(t, Options{}), key
}

func dialer(t *testing.T, o Options) *Dialer {
	t.Helper()
	d := NewDialer(o)
	t.Cleanup(d.Close)
	return d
}

func TestUnixSocket(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	d := dialer(t, Options{})
	info, err := d.Agent(resources.Endpoint{Socket: node(t).socket}).Node(t.Context())
	if err != nil || info.Name != "one" {
		t.Fatalf("%+v, %v", info, err)
	}
	err = d.Agent(resources.Endpoint{Socket: node(t).socket}).Grow(t.Context())
	if err == nil || api.IsNotFound(err) || IsUnreachable(err) {
		t.Errorf("a call that the agent lacks: %v", err)
	}
}

func TestSSH(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t, key.PublicKey())
	info, err := d.Agent(sshd.endpoint(node(t).socket)).Node(t.Context())
	if err != nil || info.Name != "one" {
		t.Fatalf("%+v, %v", info, err)
	}
}

// Whatever is called at once, a machine sees one login.
func TestOneConnectionForAllCalls(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t, key.PublicKey())
	one, other := node(t), node(t)
	var calls sync.WaitGroup
	for i := range 40 {
		socket := one.socket
		if i%2 == 0 {
			socket = other.socket
		}
		calls.Go(func() {
			if _, err := d.Agent(sshd.endpoint(socket)).Node(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := sshd.tries.Load(); got != 1 {
		t.Errorf("the machine saw %d connections, want 1", got)
	}
}

// An answer that is longer than a buffer leaves its connection usable.
func TestAnswersAreReadToTheirEnd(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	mux := http.NewServeMux()
	mux.Handle("GET /v1/events", api.Handler(func(*http.Request) (any, error) {
		return []resources.Event{{Message: strings.Repeat("long ", 10_000)}}, nil
	}))
	f := serve(t, mux)
	s := dialer(t, Options{}).Server(resources.Endpoint{Socket: f.socket})
	for range 5 {
		if _, err := s.Events(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.dialed.Load(); got != 1 {
		t.Errorf("5 calls took %d connections, want 1", got)
	}
}

func TestWrongHostKeyFailsAtOnce(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t, key.PublicKey())
	endpoint := sshd.endpoint(node(t).socket)
	pinned := endpoint.HostKey
	endpoint.HostKey = "SHA256:another"
	_, err := d.Agent(endpoint).Node(t.Context())
	mention(t, err, "another host key", "SHA256:another", pinned, "log in to root@"+sshd.address)
	if !IsUnreachable(err) {
		t.Error("the node itself was not reached, and the error does not say so")
	}
	if got := sshd.tries.Load(); got != 1 {
		t.Errorf("it was tried %d times", got)
	}
	endpoint.HostKey = ""
	_, err = d.Agent(endpoint).Node(t.Context())
	mention(t, err, "the host key is not known")
	if got := sshd.tries.Load(); got != 2 {
		t.Error("a machine that nothing knows was tried again")
	}
}

func TestRefusedLoginFailsAtOnce(t *testing.T) {
	d, _ := atHome(t)
	sshd := newSSHServer(t)
	_, err := d.Agent(sshd.endpoint("/none")).Node(t.Context())
	mention(t, err, "none of the keys", "ssh.key", "log in to root@"+sshd.address)
	if got := sshd.tries.Load(); got != 1 {
		t.Errorf("it was tried %d times", got)
	}
}

// A machine at its first boot refuses connections, then shows its image's host
// key, refuses the login, lacks the socket, and answers at last.
func TestAwaitAFirstBoot(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t)
	f := node(t)
	own := sshd.endpoint(f.socket)
	image := newKey(t)
	sshd.show(image)
	sshd.onTry(func(try int32) {
		switch try {
		case 2:
			sshd.show(sshd.key)
		case 3:
			sshd.accepts(key.PublicKey())
		}
	})
	info, err := d.Agent(own).Await(t.Context())
	if err != nil || info.Name != "one" {
		t.Fatalf("%+v, %v", info, err)
	}
	if got := sshd.tries.Load(); got != 3 {
		t.Errorf("it took %d attempts, want 3", got)
	}
}

// What a user reads when the time is up names what was wrong last.
func TestAwaitTellsTheLastFailure(t *testing.T) {
	d, key := atHome(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := nobody.Addr().String()
	nobody.Close() //nolint:errcheck // nobody listens there from now on
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() }) //nolint:errcheck // the test is over
	sshd, stranger := newSSHServer(t, key.PublicKey()), newSSHServer(t)
	wrong := sshd.endpoint("/none")
	wrong.HostKey = "SHA256:another"
	at := func(address string) resources.Endpoint {
		e := sshd.endpoint("/none")
		e.Host, e.Port, _ = net.SplitHostPort(address)
		return e
	}
	var cases sync.WaitGroup
	defer cases.Wait()
	for _, c := range []struct {
		name     string
		endpoint resources.Endpoint
		want     []string
	}{
		{"nobody listens", at(refused), []string{"log in to root@" + refused, "connection refused"}},
		{"sshd says nothing", at(silent.Addr().String()), []string{"127.0.0.1"}},
		{"another machine", wrong, []string{"another host key"}},
		{"a stranger", stranger.endpoint("/none"), []string{"none of the keys"}},
		{"no agent yet", sshd.endpoint("/none"), []string{"connect to /none on 127.0.0.1", "no such file"}},
		{"no agent here", resources.Endpoint{Socket: "/none"}, []string{"connect to /none", "no such file"}},
	} {
		cases.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := d.Agent(c.endpoint).Await(ctx)
			if err == nil {
				t.Errorf("%s: there was no error", c.name)
				return
			}
			t.Logf("%s: %v", c.name, err)
			mention(t, err, append(c.want, "wait for the agent", "it does not answer", "deadline")...)
			if !IsUnreachable(err) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the error is neither ErrUnreachable nor the context's: %v", err)
			}
			if strings.Contains(err.Error(), "http://") {
				t.Errorf("the error shows what is not the user's: %v", err)
			}
		})
	}
}

func TestReconnect(t *testing.T) {
	d, key := atHome(t)
	sshd := newSSHServer(t, key.PublicKey())
	agent := d.Agent(sshd.endpoint(node(t).socket))
	for range 3 {
		if _, err := agent.Node(t.Context()); err != nil {
			t.Fatal(err)
		}
		sshd.kill()
	}
	if got := sshd.logins.Load(); got != 3 {
		t.Errorf("%d logins, want 3", got)
	}
}

// A machine that hangs keeps its connection, and answers nothing. The call that
// waits for it ends, and the next one logs in again.
func TestSilentMachineIsNoticed(t *testing.T) {
	d, key := atHome(t)
	d.keepalive = 20 * time.Millisecond
	sshd := newSSHServer(t, key.PublicKey())
	agent := d.Agent(sshd.endpoint(node(t).socket))
	if _, err := agent.Node(t.Context()); err != nil {
		t.Fatal(err)
	}
	sshd.setFrozen(true)
	sshd.onTry(func(int32) { sshd.setFrozen(false) })
	if _, err := agent.Node(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sshd.logins.Load(); got != 2 {
		t.Errorf("%d logins, want 2", got)
	}
}

// Nobody waits longer than his own time for a login that others began.
func TestALoginThatHangs(t *testing.T) {
	d, _ := atHome(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) //nolint:errcheck // the test is over
	sshd := newSSHServer(t)
	e := sshd.endpoint("/none")
	e.Host, e.Port, _ = net.SplitHostPort(listener.Addr().String())
	var calls sync.WaitGroup
	began := time.Now()
	for range 10 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := d.Agent(e).Node(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	calls.Wait()
	d.Close()
	if took := time.Since(began); took > dialTimeout/2 {
		t.Errorf("ten calls and the end took %s", took)
	}
	if _, err := d.Agent(e).Node(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a call after the end: %v", err)
	}
}

// mention checks that an error says what a user needs.
func mention(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there was no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not mention %q: %v", word, err)
		}
	}
}

// Only a first boot excuses another host key, and not for ever.
func TestPatience(t *testing.T) {
	wrong := fmt.Errorf("dial: %w", &permanentError{err: errHostKey, atBoot: true})
	noKey := &permanentError{err: errors.New("there is no SSH key")}
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name     string
		patience patience
		denied   time.Duration // since the first denial
		err      error
		again    bool
	}{
		{"a call is refused", usual, 0, refused, true},
		{"a call finds another key", usual, 0, wrong, false},
		{"a boot finds another key", booting, 0, wrong, true},
		{"a boot still finds another key", booting, booting.boot - time.Minute, wrong, true},
		{"a boot finds another key for too long", booting, booting.boot, wrong, false},
		{"a boot has no key to log in with", booting, 0, noKey, false},
		{"a boot is refused for long", booting, time.Hour, refused, true},
		{"a report is refused", once, 0, refused, false},
	} {
		a := &attempts{patience: c.patience, log: slog.New(slog.DiscardHandler), denied: time.Now().Add(-c.denied)}
		if again, _ := a.again(t.Context(), nil, c.err); again != c.again {
			t.Errorf("%s: trying again is %t", c.name, again)
		}
	}
}

// A call bears with servers that have no leader, for as long as they may take to
// find one, and then hands on what they say.
func TestACallWaitsForALeader(t *testing.T) {
	for _, c := range []struct {
		name     string
		patience patience
		since    time.Duration // the first answer that nobody leads
		status   int
		again    bool
	}{
		{"at first", usual, 0, http.StatusServiceUnavailable, true},
		{"for too long", usual, election, http.StatusServiceUnavailable, false},
		{"what is said again anyhow", once, 0, http.StatusServiceUnavailable, false},
		{"another answer", usual, 0, http.StatusConflict, false},
		{"a full disk", usual, 0, http.StatusInsufficientStorage, true},
		{"a full disk, for what is said again anyhow", once, 0, http.StatusInsufficientStorage, false},
	} {
		turned := 0
		a := &attempts{patience: c.patience, log: slog.New(slog.DiscardHandler), next: func() { turned++ }, leaderless: time.Now().Add(-c.since)}
		response := &http.Response{StatusCode: c.status, Header: http.Header{api.Header: {api.Version}}, Body: io.NopCloser(strings.NewReader(`{"error":"nobody leads"}`))}
		again, err := a.again(t.Context(), response, nil)
		if again != c.again || err != nil {
			t.Errorf("%s: trying again is %t, %v", c.name, again, err)
		}
		if left, _ := io.ReadAll(response.Body); !again && len(left) == 0 {
			t.Errorf("%s: the answer was read", c.name)
		}
		if (turned == 1) != api.Elsewhere(c.status) {
			t.Errorf("%s: it turned to another server %d times", c.name, turned)
		}
	}
}

// A change that a server has taken on is heard of, also where its caller gives up
// meanwhile: it would be made, and nobody would own it. Whatever did not get that far
// ends at once.
func TestAChangeThatIsCancelled(t *testing.T) {
	gaveUp := errors.New("somebody pressed ^C")
	taken, goOn := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("PUT /v1/services/web", api.Handler(func(r *http.Request) (any, error) {
		if err := api.Await(r); err != nil {
			return nil, err
		}
		close(taken)
		<-goOn
		return resources.ServiceStatus{Revision: 7}, nil
	}))
	d := dialer(t, Options{})
	server := d.Server(resources.Endpoint{Socket: serve(t, mux).socket})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-taken
		cancel(gaveUp)
		close(goOn)
	}()
	if status, err := server.PutService(ctx, resources.Service{Name: "web"}); err != nil || status.Revision != 7 {
		t.Errorf("it was made, and the call says %+v, %v", status, err)
	}
	if ctx.Err() == nil {
		t.Error("it was not cancelled")
	}
	if _, err := server.PutService(ctx, resources.Service{Name: "web"}); !errors.Is(err, gaveUp) {
		t.Errorf("a call that did not begin: %v", err)
	}
}

// A report that a server has taken and does not answer is given up in time: another
// server has to hear of the node before it counts as lost.
func TestAReportHasNoLastWord(t *testing.T) {
	taken := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("PUT /v1/nodes/n1/status", api.Handler(func(r *http.Request) (any, error) {
		if err := api.Await(r); err != nil {
			return nil, err
		}
		close(taken)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}))
	server := dialer(t, Options{}).Server(resources.Endpoint{Socket: serve(t, mux).socket})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan time.Time, 1)
	go func() {
		<-taken
		ended <- time.Now()
		cancel()
	}()
	if err := server.PutStatus(ctx, "n1", nil, 0); err == nil {
		t.Error("nobody has answered it")
	}
	if after := time.Since(<-ended); after >= usual.lastWord {
		t.Errorf("it went on for %s", after)
	}
}
