package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
)

// Replica is a place in the network namespace of one: a client there is on the
// networks that the replica is on.
type Replica struct{ namespace string }

// Replica gives that of a replica that runs on the host.
func (h *Host) Replica(id resources.ReplicaID) Replica {
	return Replica{filepath.Join(h.Dir, "run", "network", "netns", string(id))}
}

// On is a place on the host itself.
func (h *Host) On() Replica { return Replica{"/run/netns/" + h.Podman.Namespace} }

// Dial connects to an address, host:port with an IP address.
func (r Replica) Dial(ctx context.Context, network, address string) (connected net.Conn, err error) {
	err = podmantest.InNamespace(r.namespace, func() error {
		connected, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return connected, err
}

// Listen listens there on TCP. It is closed with the test.
func (r Replica) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	err := podmantest.InNamespace(r.namespace, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// HTTP is a client there. It keeps no connections, and knows no names.
func (r Replica) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.Dial}}
}

// Lookup asks the node for the IPv4 addresses of a name, and sorts them. A name
// that is not there has none.
func (r Replica) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	connected, err := r.Dial(ctx, "tcp", netip.AddrPortFrom(resources.NodeResolver, 53).String())
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", name, err)
	}
	defer connected.Close() //nolint:errcheck // it was asked
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	answer, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).ExchangeWithConnContext(ctx, question, &dns.Conn{Conn: connected})
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask for %s: %w", name, err)
	case answer.Rcode == dns.RcodeNameError:
		return nil, nil
	case answer.Rcode != dns.RcodeSuccess:
		return nil, fmt.Errorf("ask for %s: %w", name, errors.New(dns.RcodeToString[answer.Rcode]))
	}
	var all []netip.Addr
	for _, record := range answer.Answer {
		if a, is := record.(*dns.A); is {
			address, _ := netip.AddrFromSlice(a.A.To4())
			all = append(all, address)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all, nil
}
