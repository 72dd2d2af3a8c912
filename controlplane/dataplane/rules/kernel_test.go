package rules

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// TestPaths asks along every kind of path, in TCP and UDP: each allowed one works,
// with the source that it should have, and each other one is refused at once.
func TestPaths(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name string
		// from is a machine, and to an address.
		from, to string
		want     []string
		// only is the protocol, where it is not both.
		only string
	}{
		{name: "virtual IP, from the node of a replica", from: "web-3", to: "10.40.0.1:80", want: []string{"web-1 sees 10.40.32.3", "web-2 sees 10.40.32.3"}},
		{name: "virtual IP, from another node", from: "idle-1", to: "10.40.0.1:80", want: []string{"web-1 sees 10.40.33.9", "web-2 sees 10.40.33.9"}},
		{name: "virtual IP, from a replica of the service", from: "web-1", to: "10.40.0.1:80", want: []string{"web-1 sees 10.40.32.1", "web-2 sees 10.40.32.2"}},
		{name: "virtual IP, without encryption", from: "lone-1", to: "10.42.0.1:80", want: []string{"plain-1 sees 10.42.32.2"}},
		{name: "virtual IP, from the node itself", from: "node-a", to: "10.40.0.1:80", want: []string{"web-1 sees 10.40.32.1", "web-2 sees 10.40.32.1"}},
		{name: "virtual IP of an internal network, from the node itself", from: "node-a", to: "10.41.0.1:80", want: []string{"db-1 sees 10.41.32.1", "db-2 sees 10.41.32.1"}},
		{name: "virtual IP of a network that the client is not on", from: "web-1", to: "10.41.0.1:80", want: []string{"refused"}},
		{name: "virtual IP of a network that the client is on too", from: "both-1", to: "10.41.0.1:80", want: []string{"db-1 sees 10.41.32.3", "db-2 sees 10.41.32.3"}},
		{name: "virtual IP, from outside", from: "outside", to: "10.40.0.1:80", want: []string{"refused"}},
		{name: "virtual IP without a ready replica", from: "web-1", to: "10.40.0.2:80", want: []string{"refused"}},
		{name: "virtual IP without a ready replica, from the node itself", from: "node-a", to: "10.40.0.2:80", want: []string{"refused"}},
		{name: "virtual IP of nobody", from: "web-1", to: "10.40.7.7:80", want: []string{"refused"}},
		{name: "virtual IP, a port on which nobody listens", from: "web-1", to: "10.40.0.1:81", want: []string{"refused"}},

		{name: "replica on the node", from: "web-1", to: "10.40.32.3:80", want: []string{"web-3 sees 10.40.32.2"}},
		{name: "replica on another node", from: "web-1", to: "10.40.33.2:80", want: []string{"web-2 sees 10.40.32.2"}},
		{name: "replica of another network on the node", from: "web-1", to: "10.41.32.2:80", want: []string{"refused"}},
		{name: "replica of another network on another node", from: "web-1", to: "10.41.33.2:80", want: []string{"refused"}},
		{name: "replica of the networks' other kind", from: "web-1", to: "10.42.33.2:80", want: []string{"refused"}},
		{name: "a replica's address on another network", from: "web-1", to: "10.41.32.3:80", want: []string{"refused"}},
		{name: "address of nobody", from: "web-1", to: "10.40.32.99:80", want: []string{"refused"}},
		{name: "address of no node", from: "web-1", to: "10.40.77.2:80", want: []string{"refused"}},
		{name: "replica, from its node", from: "node-a", to: "10.40.32.2:80", want: []string{"web-1 sees 10.40.32.1"}},
		{name: "replica of an internal network, from its node", from: "node-a", to: "10.41.32.2:80", want: []string{"db-1 sees 10.41.32.1"}},
		{name: "replica, from outside", from: "outside", to: "10.40.32.2:80", want: []string{"refused"}},

		{name: "way out", from: "web-1", to: "192.168.50.9:80", want: []string{"outside sees 192.168.50.1"}},
		{name: "way out of an internal network", from: "db-1", to: "192.168.50.9:80", want: []string{"refused"}},
		{name: "way out of a replica on an internal network and another", from: "both-1", to: "192.168.50.9:80", want: []string{"outside sees 192.168.50.1"}},
		{name: "resolver", from: "web-1", to: "169.254.53.53:53", want: []string{"node-a sees 10.40.32.2"}},
		{name: "the node at its resolver's address", from: "web-1", to: "169.254.53.53:7000", want: []string{"refused"}},
		{name: "a network that the node is not on", from: "web-1", to: "10.44.32.2:80", want: []string{"refused"}},
		{name: "a network that the node is not on, from an internal one", from: "db-1", to: "10.44.0.1:80", want: []string{"refused"}},
		{name: "a network that the node is not on, from the node itself", from: "node-a", to: "10.44.0.1:80", want: []string{"refused"}},
		{name: "the node at its gateway's address", from: "web-1", to: "10.40.32.1:7000", want: []string{"refused"}},
		{name: "the other node at its gateway's address", from: "web-1", to: "10.40.33.1:7000", want: []string{"refused"}},
		{name: "the other node at its gateway's address, without encryption", from: "lone-1", to: "10.42.33.1:7000", want: []string{"refused"}},
		{name: "the node", from: "web-1", to: "192.168.50.1:7000", want: []string{"refused"}},
		{name: "another node", from: "web-1", to: "192.168.50.2:7000", want: []string{"refused"}},
		{name: "the node, from outside", from: "outside", to: "192.168.50.1:7000", want: []string{"node-a sees 192.168.50.9"}},
		{name: "the node, from itself", from: "node-a", to: "127.0.0.1:7001", want: []string{"node-a sees 127.0.0.1"}},

		{name: "published port, from outside", from: "outside", to: "192.168.50.1:8080", want: []string{"web-1 sees 192.168.50.9", "web-2 sees 10.40.32.1"}},
		{name: "published port, from outside, on the other node", from: "outside", to: "192.168.50.2:8080", want: []string{"web-1 sees 10.40.33.1", "web-2 sees 192.168.50.9"}},
		{name: "published port, from the node", from: "node-a", to: "192.168.50.1:8080", want: []string{"web-1 sees 192.168.50.1", "web-2 sees 10.40.32.1"}},
		{name: "published port, from the node's loopback", from: "node-a", to: "127.0.0.1:8080", want: []string{"web-1 sees 10.40.32.1", "web-2 sees 10.40.32.1"}},
		{name: "published port, from a replica", from: "web-3", to: "192.168.50.1:8080", want: []string{"web-1 sees 10.40.32.3", "web-2 sees 10.40.32.1"}},
		{name: "published port, from a replica of the service", from: "web-1", to: "192.168.50.1:8080", want: []string{"web-1 sees 10.40.32.1", "web-2 sees 10.40.32.1"}},
		{name: "published port, from a replica of another network", from: "lone-1", to: "192.168.50.1:8080", want: []string{"web-1 sees 10.42.32.2", "web-2 sees 10.40.32.1"}},
		{name: "published port of the other node, from a replica", from: "web-3", to: "192.168.50.2:8080", want: []string{"web-1 sees 10.40.33.1", "web-2 sees 192.168.50.1"}},
		{name: "published port, from an internal network", from: "db-1", to: "192.168.50.1:8080", want: []string{"refused"}},
		{name: "published port without a ready replica", from: "outside", to: "192.168.50.1:8081", want: []string{"refused"}, only: "tcp"},
		{name: "published port without a ready replica, from loopback", from: "node-a", to: "127.0.0.1:8081", want: []string{"refused"}, only: "tcp"},
		{name: "published port of an internal network", from: "outside", to: "192.168.50.1:8082", want: []string{"db-1 sees 10.41.32.1", "db-2 sees 10.41.32.1"}, only: "tcp"},

		{name: "host port, from outside", from: "outside", to: "192.168.50.1:9090", want: []string{"both-1 sees 192.168.50.9"}, only: "tcp"},
		{name: "host port, from loopback", from: "node-a", to: "127.0.0.1:9090", want: []string{"both-1 sees 10.40.32.1"}, only: "tcp"},
		{name: "host port, from a replica", from: "web-1", to: "192.168.50.1:9090", want: []string{"both-1 sees 10.40.32.2"}, only: "tcp"},
		{name: "host port, from the replica itself", from: "both-1", to: "192.168.50.1:9090", want: []string{"both-1 sees 10.40.32.1"}, only: "tcp"},
		{name: "host port, on another node", from: "outside", to: "192.168.50.2:9090", want: []string{"refused"}, only: "tcp"},
	}
	for _, tt := range tests {
		for _, protocol := range []string{"tcp", "udp"} {
			if tt.only == "" || tt.only == protocol {
				t.Run(tt.name+"/"+protocol, func(t *testing.T) { w.expect(t, tt.from, protocol, tt.to, tt.want...) })
			}
		}
	}
}

// TestAffinity: a client by its address stays with one replica, on either node.
func TestAffinity(t *testing.T) {
	w := newWorld(t)
	for _, from := range []string{"web-1", "both-1", "idle-1"} {
		first, _, _ := strings.Cut(w.ask(from, "tcp", "10.40.0.3:80"), " ")
		for range 20 {
			if got, _, _ := strings.Cut(w.ask(from, "tcp", "10.40.0.3:80"), " "); got != first || first == "" {
				t.Fatalf("%s is answered by %q and %q", from, first, got)
			}
		}
	}
}

// TestRotation takes a replica out while clients talk to it: a TCP connection goes
// on, UDP goes to another, and nothing new comes.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{"10.40.0.1:80", "192.168.50.1:8080"} {
		t.Run(to, func(t *testing.T) {
			node := w.nodes["node-a"]
			tcp, udp := w.dialWeb2(t, "tcp", to), w.dialWeb2(t, "udp", to)
			setReady(&node, "web-2", false)
			w.nodes["node-a"] = node
			w.apply(t, "node-a")
			wantAnswer(t, tcp, "web-2")
			wantAnswer(t, udp, "web-1")
			w.expect(t, "web-3", "tcp", to, "web-1 sees 10.40.32.3")

			setReady(&node, "web-1", false)
			w.apply(t, "node-a")
			wantAnswer(t, tcp, "web-2")
			w.expect(t, "web-3", "tcp", to, "refused")
			w.expect(t, "web-3", "udp", to, "refused")

			setReady(&node, "web-1", true)
			setReady(&node, "web-2", true)
			w.apply(t, "node-a")
			wantAnswer(t, tcp, "web-2")
		})
	}
}

// TestRestart is an agent that comes back, knowing nothing, after the rotation
// changed; and one whose table somebody flushed.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	tcp, udp := w.dialWeb2(t, "tcp", "10.40.0.1:80"), w.dialWeb2(t, "udp", "10.40.0.1:80")
	node := w.nodes["node-a"]
	setReady(&node, "web-2", false)
	w.walls["node-a"] = &Firewall{}
	w.apply(t, "node-a")
	wantAnswer(t, tcp, "web-2")
	wantAnswer(t, udp, "web-1")

	w.machines["node-a"].do(t, func() error { return nft(t.Context(), "flush ruleset") })
	w.expect(t, "web-1", "tcp", "192.168.50.1:7000", "node-a sees 10.40.32.2")
	w.apply(t, "node-a")
	w.expect(t, "web-1", "tcp", "192.168.50.1:7000", "refused")
	wantAnswer(t, tcp, "web-2")

	// Not a table of skerry's: nothing leads from there but to begin anew.
	w.machines["node-a"].do(t, func() error {
		return nft(t.Context(), removal+"table inet skerry { set networks { type ether_addr; }; chain guard { drop; }; }")
	})
	w.apply(t, "node-a")
	w.expect(t, "web-1", "tcp", "192.168.50.1:7000", "refused")

	for range 2 {
		w.machines["node-a"].do(t, func() error { return w.walls["node-a"].Remove(t.Context()) })
	}
	w.expect(t, "web-1", "tcp", "192.168.50.1:7000", "node-a sees 10.40.32.2")
}

// TestPublishLate: a client that sent to a port before it was published is balanced
// once it is.
func TestPublishLate(t *testing.T) {
	w := newWorld(t)
	node := w.nodes["node-a"]
	ports := service(&node, "web").Ports
	service(&node, "web").Ports = nil
	w.apply(t, "node-a")
	c, err := w.dial("outside", "udp", "192.168.50.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // has been used
	if got, err := c.ask(); err == nil {
		t.Fatalf("an unpublished port answers %q", got)
	}
	service(&node, "web").Ports = ports
	w.apply(t, "node-a")
	wantAnswer(t, c, "web-")
}

// TestChangeUnderLoad changes the table over and over, from what the kernel lists,
// as agents do that just started, while connections are made and used; none is lost.
func TestChangeUnderLoad(t *testing.T) {
	w := newWorld(t)
	old := w.dialWeb2(t, "tcp", "10.40.0.1:80")
	done := make(chan error)
	go func() {
		done <- w.machines["node-a"].in(func() error {
			for i := range 100 {
				node := w.nodes["node-a"]
				setReady(&node, "web-1", i%2 == 0)
				if err := nft(t.Context(), change(list(t.Context()), Build(node))); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	for asked := 0; ; asked++ {
		select {
		case err := <-done:
			if err != nil || asked == 0 {
				t.Fatalf("after %d connections: %v", asked, err)
			}
			return
		default:
		}
		wantAnswer(t, old, "web-2")
		if got := w.ask("web-3", "tcp", "10.40.0.1:80"); !strings.HasPrefix(got, "web-") {
			t.Fatalf("connection %d to what changes: %s", asked, got)
		}
		if got := w.ask("web-3", "udp", "10.40.0.3:80"); !strings.HasPrefix(got, "web-") {
			t.Fatalf("connection %d to what stays: %s", asked, got)
		}
	}
}

// TestSourcePort: a connection of the node's own may come from a port that is
// published.
func TestSourcePort(t *testing.T) {
	w := newWorld(t)
	w.machines["node-a"].do(t, func() error {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{Port: 8082}, Timeout: deadline}).Dial("tcp", "192.168.50.9:80")
		if err == nil {
			wantAnswer(t, &conn{c, bufio.NewReader(c)}, "outside")
			err = c.Close()
		}
		return err
	})
}

// TestEcho: a replica can ask whether its node, and another on its network, is there.
func TestEcho(t *testing.T) {
	w := newWorld(t)
	for to, want := range map[string]error{
		"169.254.53.53": nil, "10.40.32.1": nil, "10.40.33.1": nil, "10.40.33.2": nil,
		"10.41.32.1": unix.EHOSTUNREACH, "192.168.50.1": unix.EHOSTUNREACH, "10.40.0.1": unix.ECONNREFUSED,
	} {
		w.machines["web-1"].do(t, func() error {
			c, err := net.Dial("ip4:icmp", to)
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // has been used
			if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
				return err
			}
			// An echo request, whose checksum is all that is in it but its type.
			if _, err := c.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); err != nil {
				return err
			}
			if _, err = c.Read(make([]byte, 128)); !errors.Is(err, want) {
				t.Errorf("echo to %s: %v, want %v", to, err, want)
			}
			return nil
		})
	}
}

// dialWeb2 makes a connection from web-3 that web-2, on the other node, answers.
func (w *world) dialWeb2(t *testing.T, protocol, to string) *conn {
	t.Helper()
	for range 40 {
		c, err := w.dial("web-3", protocol, to)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.ask()
		if err == nil && strings.HasPrefix(got, "web-2 ") {
			t.Cleanup(func() { c.Close() }) //nolint:errcheck // has been used
			return c
		}
		c.Close() //nolint:errcheck // has been used
	}
	t.Fatalf("web-2 is not among who answers at %s", to)
	return nil
}

func wantAnswer(t *testing.T, c *conn, replica string) {
	t.Helper()
	if got, err := c.ask(); err != nil || !strings.HasPrefix(got, replica) {
		t.Errorf("connection to %s is answered by %q, %v; want %s", c.RemoteAddr(), got, err, replica)
	}
}

// setReady puts a replica of the service web into the rotation, or takes it out.
func setReady(n *resources.NodeNetwork, id resources.ReplicaID, ready bool) {
	replicas := service(n, "web").Replicas
	i := slices.IndexFunc(replicas, func(r resources.MappedReplica) bool { return r.ID == id })
	replicas[i].Ready = ready
}
