package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// A server that does not answer delays a connection to the next one by no more
// than nextServer, and one that refuses not at all.
func TestAServerThatIsAwayDelaysNobody(t *testing.T) {
	refused := errors.New("refused")
	silent := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	refuses := func(context.Context) (net.Conn, error) { return nil, refused }
	answers := func(context.Context) (net.Conn, error) {
		here, _ := net.Pipe()
		return here, nil
	}
	for _, c := range []struct {
		name    string
		servers []func(context.Context) (net.Conn, error)
		takes   time.Duration
		fails   bool
	}{
		{"all is well", []func(context.Context) (net.Conn, error){answers, answers}, 0, false},
		{"the first is silent", []func(context.Context) (net.Conn, error){silent, answers}, nextServer, false},
		{"two are silent", []func(context.Context) (net.Conn, error){silent, silent, answers}, 2 * nextServer, false},
		{"the first refuses", []func(context.Context) (net.Conn, error){refuses, answers}, 0, false},
		{"all refuse", []func(context.Context) (net.Conn, error){refuses, refuses}, 0, true},
		{"all are silent", []func(context.Context) (net.Conn, error){silent, silent}, serverTimeout + 2*nextServer, true},
		{"there is none", nil, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := Way{Dial: func(ctx context.Context, at resources.ServerAddress) (net.Conn, error) {
					return c.servers[at.Host[0]-'a'](ctx)
				}}
				for i := range c.servers {
					w.Servers = append(w.Servers, resources.ServerAddress{Host: string(rune('a' + i))})
				}
				began := time.Now()
				conn, err := w.dial(t.Context())
				if took := time.Since(began); took != c.takes || (err != nil) != c.fails || err != nil && !IsUnreachable(err) {
					t.Errorf("it took %s, want %s, and said %v", took, c.takes, err)
				}
				if err == nil {
					conn.Close() //nolint:errcheck // it is in memory
				}
			})
		})
	}
}
