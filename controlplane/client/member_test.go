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
				conn, err := w.dial(t.Context(), 0)
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

// Each turn tries another server first: one that is cut off from the leader takes
// connections, and can do nothing with them.
func TestEachTurnBeginsElsewhere(t *testing.T) {
	for _, c := range []struct {
		name    string
		servers string
		turn    int
		want    string
	}{
		{"at first", "abc", 0, "a"},
		{"the next", "abc", 1, "b"},
		{"around", "abc", 4, "b"},
		{"the only one", "a", 3, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := ""
			w := Way{Dial: func(_ context.Context, at resources.ServerAddress) (net.Conn, error) {
				asked += at.Host
				here, _ := net.Pipe()
				return here, nil
			}}
			for _, host := range c.servers {
				w.Servers = append(w.Servers, resources.ServerAddress{Host: string(host)})
			}
			conn, err := w.dial(t.Context(), c.turn)
			if err != nil || asked != c.want {
				t.Fatalf("it asks %q, %v", asked, err)
			}
			conn.Close() //nolint:errcheck // it is in memory
		})
	}
}
