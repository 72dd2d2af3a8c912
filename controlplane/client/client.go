// Package client calls the APIs of servers and agents: over a unix socket of
// this machine, or one behind SSH, whose host key the endpoint pins.
//
// A Dialer holds what it takes to log in, and one SSH connection for each
// machine, over which all calls go. Server and Agent are the two APIs.
//
// Every call is idempotent, so what does not come through is sent again, here
// and nowhere else; how often is the call's patience. A change that a server has
// taken on is heard to its end, for a while, where its caller gives up meanwhile.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// ErrUnreachable says that no call came through: the machine is silent, or it
// is not the one that the endpoint names.
var ErrUnreachable = errors.New("it does not answer")

// IsUnreachable is true where err says that nobody answered.
func IsUnreachable(err error) bool { return errors.Is(err, ErrUnreachable) }

// connection carries the calls to one API, which any of several endpoints
// serves.
type connection struct {
	endpoints []resources.Endpoint
	transport *http.Transport
	log       *slog.Logger
	clock     skew
	// turn counts the answers of servers that could do nothing: each time the next
	// one is tried first.
	turn atomic.Int64
}

func (d *Dialer) connect(endpoints []resources.Endpoint) *connection {
	c := &connection{endpoints: endpoints, log: d.log}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.dialAny(ctx, from(endpoints, int(c.turn.Load())))
		},
		IdleConnTimeout: time.Minute, ExpectContinueTimeout: api.ExpectPatience,
	}
	return c
}

// from gives a list that begins with another one of its elements.
func from[T any](list []T, turn int) []T {
	if len(list) == 0 {
		return nil
	}
	i := turn % len(list)
	return slices.Concat(list[i:], list[:i])
}

// next turns to the next server, where this one can do nothing at present: it may
// be cut off from the one that leads, which others reach.
func (c *connection) next() {
	c.turn.Add(1)
	c.transport.CloseIdleConnections()
}

func (d *Dialer) dialAny(ctx context.Context, endpoints []resources.Endpoint) (net.Conn, error) {
	var failures []error
	for _, e := range endpoints {
		connected, err := d.dial(ctx, e)
		if err == nil {
			return connected, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(failures...))
}

// patience is how long a call goes on where it does not come through. The waits
// between attempts grow from a quarter of a second to longest.
type patience struct {
	retries int
	longest time.Duration
	// boot is how long another host key or a refused login is taken for a
	// machine at its first boot, whose sshd can be up before its keys are.
	boot time.Duration
	// lastWord is how long the answer to a change that a server has taken on is
	// waited for once the caller has given up.
	lastWord time.Duration
}

var (
	// once is for what is said again anyhow, and then to another server, where this
	// one does not answer.
	once = patience{}
	// usual outlasts a restart of the server.
	usual = patience{retries: 4, longest: 2 * time.Second, lastWord: 5 * time.Second}
	// resuming, about a minute, outlasts a restart of the machine's network.
	resuming = patience{retries: 30, longest: 2 * time.Second}
	// booting outlasts everything but the caller, who waits for little else.
	booting = patience{retries: math.MaxInt32, longest: 250 * time.Millisecond, boot: 3 * time.Minute}
)

// call sends one request and reads its answer.
func (c *connection) call(ctx context.Context, method, path string, in, out any) error {
	return c.callWith(ctx, usual, method, path, in, out)
}

func (c *connection) callWith(ctx context.Context, p patience, method, path string, in, out any) error {
	if method != http.MethodGet && p.lastWord > 0 {
		outlasting, cancel := outlast(ctx, p.lastWord)
		defer cancel()
		ctx = outlasting
	}
	sent := time.Now()
	response, err := c.send(ctx, p, method, path, in)
	if err != nil {
		return err
	}
	defer finish(response)
	c.clock.see(response.Header, sent, time.Since(sent))
	return api.ReadAnswer(response, out)
}

// outlast gives the context of a call that changes something. Where the server has
// taken the change on (see api.Expect), it goes on for lastWord after the end of ctx,
// since nobody would know otherwise what was made.
func outlast(ctx context.Context, lastWord time.Duration) (context.Context, context.CancelFunc) {
	longer, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var taken atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		if taken.Load() {
			last := time.NewTimer(lastWord)
			defer last.Stop()
			select {
			case <-last.C:
			case <-longer.Done():
			}
		}
		end(context.Cause(ctx))
	})
	trace := &httptrace.ClientTrace{Got100Continue: func() { taken.Store(true) }}
	return httptrace.WithClientTrace(longer, trace), func() {
		stop()
		end(nil)
	}
}

// finish reads what is left of an answer, which lets its connection carry the
// next call.
func finish(response *http.Response) {
	io.CopyN(io.Discard, response.Body, 64<<10) //nolint:errcheck // the connection is not used again then
	response.Body.Close()                       //nolint:errcheck // it was read
}

func (c *connection) send(ctx context.Context, p patience, method, path string, in any) (*http.Response, error) {
	var body any
	changes := method != http.MethodGet
	if in == nil && changes {
		in = struct{}{} // for the server to wait for
	}
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("write the request %s: %w", path, err)
		}
		body = bytes.NewReader(text)
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, method, "http://skerry"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request %s: %w", path, err)
	}
	request.Header.Set(api.Header, api.Version)
	if changes {
		api.Expect(request.Request)
	}
	attempts := &attempts{patience: p, log: c.log, next: c.next}
	sender := retryablehttp.NewClient()
	sender.HTTPClient = &http.Client{Transport: c.transport}
	sender.Logger = nil
	// How often is for attempts to say.
	sender.RetryMax, sender.RetryWaitMin, sender.RetryWaitMax = math.MaxInt32, 250*time.Millisecond, p.longest
	sender.CheckRetry = attempts.again
	sender.ErrorHandler = func(_ *http.Response, err error, _ int) (*http.Response, error) { return nil, err }
	response, err := sender.Do(request)
	if err != nil {
		return nil, attempts.failure(ctx)
	}
	return response, nil
}

// attempts is what came of the attempts of one call.
type attempts struct {
	patience
	log  *slog.Logger
	next func()
	last error
	// failed counts the attempts that did not come through, and full those that
	// found a server without room.
	failed, full int
	// denied is when the machine first showed another key or refused a login, and
	// leaderless when a server first said that nobody leads.
	denied, leaderless time.Time
}

// election is how long a cluster may take to find another leader: the lease of
// the former one, and then a lot: on busy machines whose store had just come
// together again, 29 s were seen.
const election = 40 * time.Second

// again says whether a call is sent again. It is retryablehttp's CheckRetry.
func (a *attempts) again(ctx context.Context, response *http.Response, err error) (bool, error) {
	if err == nil && api.Elsewhere(response.StatusCode) {
		a.next()
		return a.waitsForServer(ctx, response), nil
	}
	if err == nil {
		return false, nil
	}
	// What ctx cut off says nothing of the machine, but the attempt before did.
	if ctx.Err() != nil {
		return false, err
	}
	// A url.Error names a method and an address that nobody knows.
	if wrapped, found := errors.AsType[*url.Error](err); found {
		err = wrapped.Err
	}
	a.last = err
	a.log.DebugContext(ctx, "a call did not come through", "err", err)
	if permanent, found := errors.AsType[*permanentError](err); found {
		if a.denied.IsZero() {
			a.denied = time.Now()
		}
		if !permanent.atBoot || time.Since(a.denied) >= a.boot {
			return false, err
		}
	}
	if a.failed++; a.failed > a.retries {
		return false, err
	}
	return true, nil
}

// waitsForServer is true for an answer that says that nobody leads at present,
// unless it has been so for long; and for one of a server that is full, unless
// it was the same with all of them.
func (a *attempts) waitsForServer(ctx context.Context, response *http.Response) bool {
	if a.retries == 0 || ctx.Err() != nil {
		return false
	}
	if response.StatusCode == http.StatusInsufficientStorage {
		a.full++
		return a.full <= a.retries
	}
	if a.leaderless.IsZero() {
		a.leaderless = time.Now()
	}
	if time.Since(a.leaderless) >= election {
		return false
	}
	a.last = api.ReadAnswer(response, nil)
	return true
}

// failure says why the call did not come through.
func (a *attempts) failure(ctx context.Context) error {
	err := a.last
	switch {
	case err == nil:
		return fmt.Errorf("%w: no connection came about: %w", ErrUnreachable, context.Cause(ctx))
	case a.failed > 0 && !IsUnreachable(err):
		err = fmt.Errorf("%w: the connection broke off: %w", ErrUnreachable, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}

// watch calls see with every value of a watch, across broken connections, until
// see returns false, the thing is gone or ctx ends.
func watch[T any](ctx context.Context, c *connection, path string, see func(T) (more bool, err error)) error {
	p := usual
	for pause := time.Duration(0); ; pause = min(2*pause+100*time.Millisecond, 2*time.Second) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		attempt, cancel := context.WithCancel(ctx)
		response, err := c.send(attempt, p, http.MethodGet, path+"?watch=1", nil)
		if err != nil {
			cancel()
			return err
		}
		if response.StatusCode >= http.StatusBadRequest {
			err := api.ReadAnswer(response, nil)
			finish(response)
			cancel()
			return err
		}
		err = api.ReadWatch(ctx, alive(response, cancel), func(value T) (bool, error) {
			pause = 0
			return see(value)
		})
		response.Body.Close() //nolint:errcheck // it was read
		cancel()
		if !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return err
		}
		c.log.Debug("a watch broke off, and begins again", "path", path, "err", err)
		p = resuming
	}
}

// alive reads a watch, and breaks it off where it is silent for too long. What
// is done with a value is no silence.
func alive(response *http.Response, breakOff func()) io.Reader {
	patience := api.Patience(response)
	return readFunc(func(into []byte) (int, error) {
		timer := time.AfterFunc(patience, breakOff)
		defer timer.Stop()
		return response.Body.Read(into)
	})
}

type readFunc func(into []byte) (int, error)

func (f readFunc) Read(into []byte) (int, error) { return f(into) }

// closeIdle ends connections that carry no call.
func (c *connection) closeIdle() { c.transport.CloseIdleConnections() }

// nodeOf names the machines of an endpoint list, for errors.
func nodeOf(endpoints []resources.Endpoint) string {
	hosts := make([]string, len(endpoints))
	for i, e := range endpoints {
		hosts[i] = first(e.Host, e.Socket)
	}
	slices.Sort(hosts)
	return strings.Join(hosts, ", ")
}
