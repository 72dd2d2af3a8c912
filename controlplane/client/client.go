// Package client calls the APIs of servers and agents: over a unix socket of
// this machine, or one behind SSH, whose host key the endpoint pins.
//
// A Dialer holds what it takes to log in, and one SSH connection for each
// machine, over which all calls go. Server and Agent are the two APIs.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
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
}

func (d *Dialer) connect(endpoints []resources.Endpoint) *connection {
	c := &connection{endpoints: endpoints, log: d.log}
	c.transport = &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dialAny(ctx, endpoints) },
		IdleConnTimeout: time.Minute,
	}
	return c
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

// Attempts of a call whose connection fails: with the waits of a quarter to two
// seconds between them, a restart of the server goes unnoticed.
const callRetries = 4

// call sends one request and reads its answer. Every call is idempotent, so it
// is sent again where its connection breaks.
func (c *connection) call(ctx context.Context, method, path string, in, out any) error {
	return c.callWith(ctx, callRetries, method, path, in, out)
}

func (c *connection) callWith(ctx context.Context, retries int, method, path string, in, out any) error {
	response, err := c.send(ctx, retries, method, path, in)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if err := api.ReadAnswer(response, out); err != nil {
		return err
	}
	return nil
}

func (c *connection) send(ctx context.Context, retries int, method, path string, in any) (*http.Response, error) {
	var body any
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
	sender := retryablehttp.NewClient()
	sender.HTTPClient = &http.Client{Transport: c.transport}
	sender.Logger = nil
	sender.RetryMax, sender.RetryWaitMin, sender.RetryWaitMax = retries, 250*time.Millisecond, 2*time.Second
	sender.CheckRetry = retry
	sender.ErrorHandler = func(_ *http.Response, err error, _ int) (*http.Response, error) { return nil, err }
	response, err := sender.Do(request)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, ErrUnreachable) {
			err = fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
		}
		return nil, err
	}
	return response, nil
}

// retry sends again what did not come through. A wrong host key or a refused
// login is not mended by trying.
func retry(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, err
	}
	var permanent *permanentError
	if errors.As(err, &permanent) {
		return false, err
	}
	return err != nil, nil
}

// watch calls see with every value of a watch, across broken connections, until
// see returns false, the thing is gone or ctx ends.
func watch[T any](ctx context.Context, c *connection, path string, see func(T) (more bool, err error)) error {
	for {
		response, err := c.send(ctx, callRetries, http.MethodGet, path+"?watch=1", nil)
		if err != nil {
			return err
		}
		if response.StatusCode >= http.StatusBadRequest {
			err := api.ReadAnswer(response, nil)
			response.Body.Close() //nolint:errcheck // it was read
			return err
		}
		err = api.ReadWatch(ctx, response.Body, see)
		response.Body.Close() //nolint:errcheck // it was read
		if !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return err
		}
		c.log.Debug("a watch broke off, and begins again", "path", path)
	}
}

// closeIdle ends connections that carry no call.
func (c *connection) closeIdle() { c.transport.CloseIdleConnections() }

// nodeOf names the machines of an endpoint list, for errors.
func nodeOf(endpoints []resources.Endpoint) string {
	hosts := make([]string, len(endpoints))
	for i, e := range endpoints {
		hosts[i] = e.Host
		if e.Host == "" {
			hosts[i] = e.Socket
		}
	}
	slices.Sort(hosts)
	return fmt.Sprint(hosts)
}
