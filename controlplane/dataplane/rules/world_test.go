package rules

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// world is two nodes with the replicas of testdata/cluster.json, and a machine
// outside that both reach. What joins the nodes is a veth in the place of each
// tunnel. Every replica and machine answers on port 80, in TCP and UDP, with its
// name and the address it sees.
type world struct {
	// machines are all network namespaces by name: node-a, node-b, outside, web-1 ...
	machines map[string]namespace
	// nodes are what the nodes have to be.
	nodes map[string]resources.NodeNetwork
	walls map[string]*Firewall
}

// remote are the replicas on node-b.
var remote = []resources.LocalReplica{
	{ID: "db-2", Addresses: []resources.NetworkAddress{{Network: "back", Address: netip.MustParseAddr("10.41.33.2")}}},
	{ID: "idle-1", Addresses: []resources.NetworkAddress{{Network: "front", Address: netip.MustParseAddr("10.40.33.9")}}},
	{ID: "plain-1", Addresses: []resources.NetworkAddress{{Network: "clear", Address: netip.MustParseAddr("10.42.33.2")}}},
	{ID: "web-2", Addresses: []resources.NetworkAddress{{Network: "front", Address: netip.MustParseAddr("10.40.33.2")}}},
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := readNode(t, "testdata/cluster.json")
	w := &world{
		machines: map[string]namespace{},
		nodes:    map[string]resources.NodeNetwork{"node-a": a, "node-b": otherSide(a)},
		walls:    map[string]*Firewall{"node-a": {}, "node-b": {}},
	}
	for _, name := range []string{"outside", "node-a", "node-b"} {
		w.machines[name] = newNamespace(t, name)
		w.machines[name].set(t, "net/ipv4/ip_forward=1", "net/bridge/bridge-nf-call-iptables=0", "net/ipv4/icmp_ratelimit=0")
	}
	w.machines["outside"].ip(t, "link add br0 type bridge", "link set br0 up", "address add 192.168.50.9/24 dev br0", "route add 10.40.0.0/14 via 192.168.50.1")
	w.serve(t, "outside", "0.0.0.0:80")
	for i, name := range []string{"node-a", "node-b"} {
		node, address := w.machines[name], w.nodes["node-a"].Map.Nodes[i]
		node.ip(
			t,
			"address add 169.254.53.53/32 dev lo",
			fmt.Sprintf("link add eth0 type veth peer name port%d netns %s", i, w.machines["outside"]),
			"link set eth0 up", fmt.Sprintf("address add %s/24 dev eth0", address), "route add default via 192.168.50.9",
		)
		w.machines["outside"].ip(t, fmt.Sprintf("link set port%d up master br0", i))
		w.serve(t, name, "169.254.53.53:53", "0.0.0.0:7000", "127.0.0.1:7001", "0.0.0.0:8081")
	}
	for _, tunnel := range []string{"skerry-wg", "skerry-vx"} {
		w.machines["node-a"].ip(t, fmt.Sprintf("link add %[1]s type veth peer name %[1]s netns %[2]s", tunnel, w.machines["node-b"]))
	}
	for _, name := range []string{"node-a", "node-b"} {
		w.route(t, name)
		for _, r := range w.nodes[name].Replicas {
			w.addReplica(t, name, r)
		}
		w.apply(t, name)
	}
	return w
}

// otherSide is what node-b has to be where node-a is n.
func otherSide(n resources.NodeNetwork) resources.NodeNetwork {
	n.Map.Networks = slices.Clone(n.Map.Networks)
	peer := resources.Peer{Node: "node-a", Address: n.Map.Nodes[0]}
	for i, s := range n.Map.Peers[0].Subnets {
		m := &n.Map.Networks[i]
		peer.Subnets = append(peer.Subnets, resources.PeerSubnet{Network: m.Name, Subnet: m.Subnet})
		m.Subnet = s.Subnet
	}
	n.Map.Peers = []resources.Peer{peer}
	n.Replicas = remote
	return n
}

// route lays the ways of a node to its own subnets and to its peer's.
func (w *world) route(t *testing.T, name string) {
	t.Helper()
	node := w.machines[name]
	mine, its := "169.254.0.1", "169.254.0.2"
	if name == "node-b" {
		mine, its = its, mine
	}
	for _, tunnel := range []string{"skerry-wg", "skerry-vx"} {
		node.ip(t, fmt.Sprintf("link set %s up", tunnel), fmt.Sprintf("address add %s/32 dev %s scope link", mine, tunnel))
	}
	node.set(t, "net/ipv4/conf/skerry-wg/route_localnet=1", "net/ipv4/conf/skerry-vx/route_localnet=1")
	for i, n := range w.nodes[name].Map.Networks {
		tunnel := "skerry-wg"
		if n.Encryption == resources.EncryptionNone {
			tunnel = "skerry-vx"
		}
		node.ip(
			t,
			fmt.Sprintf("address add %s/32 dev lo", n.Gateway()),
			fmt.Sprintf("route add unreachable %s", n.CIDR),
			fmt.Sprintf("route add %s dev lo src %s", resources.VirtualIPs(n.CIDR), n.Gateway()),
			fmt.Sprintf("route add %s via %s dev %s onlink src %s", w.nodes[name].Map.Peers[0].Subnets[i].Subnet, its, tunnel, n.Gateway()),
		)
	}
}

// addReplica makes the namespace of a replica, as the node does.
func (w *world) addReplica(t *testing.T, on string, r resources.LocalReplica) {
	t.Helper()
	node, name := w.machines[on], string(r.ID)
	replica := newNamespace(t, name)
	w.machines[name] = replica
	veth := "skr-" + name
	node.ip(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", veth, replica), "link set "+veth+" up")
	node.set(t, "net/ipv4/conf/"+veth+"/route_localnet=1")
	replica.ip(t, "link set eth0 up")
	var listen []string
	for _, a := range r.Addresses {
		replica.ip(t, fmt.Sprintf("address add %s/32 dev eth0", a.Address))
		listen = append(listen, a.Address.String()+":80")
	}
	for i, n := range w.nodes[on].Map.Networks {
		address := resources.AddressOn(n.Name, r.Addresses)
		if !address.IsValid() {
			continue
		}
		node.ip(t, fmt.Sprintf("route add %s dev %s src %s", address, veth, n.Gateway()))
		replica.ip(t, fmt.Sprintf("route add %s via 169.254.53.53 dev eth0 onlink src %s", n.CIDR, address))
		// What is internal is not left to routes: a container may be allowed to change them.
		metric := i
		if n.Internal {
			metric += 100
		}
		replica.ip(t, fmt.Sprintf("route add default via 169.254.53.53 dev eth0 onlink src %s metric %d", address, metric))
	}
	w.serve(t, name, listen...)
}

// apply gives the node its rules.
func (w *world) apply(t *testing.T, name string) {
	t.Helper()
	w.machines[name].do(t, func() error { return w.walls[name].Apply(context.Background(), w.nodes[name]) })
}

// serve answers at the addresses, in TCP and UDP.
func (w *world) serve(t *testing.T, name string, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		var listener net.Listener
		var packets net.PacketConn
		w.machines[name].do(t, func() (err error) {
			if listener, err = net.Listen("tcp", address); err != nil {
				return err
			}
			packets, err = net.ListenPacket("udp", address)
			return err
		})
		t.Cleanup(func() {
			listener.Close() //nolint:errcheck // nobody is connected any more
			packets.Close()  //nolint:errcheck // see above
		})
		go serveTCP(name, listener)
		go serveUDP(name, packets)
	}
}

func serveTCP(name string, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close() //nolint:errcheck // the client went
			for in := bufio.NewScanner(conn); in.Scan(); {
				fmt.Fprintln(conn, answer(name, conn.RemoteAddr()))
			}
		}()
	}
}

func serveUDP(name string, c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo([]byte(answer(name, from)+"\n"), from) //nolint:errcheck // the client notices
	}
}

func answer(name string, from net.Addr) string {
	host, _, _ := net.SplitHostPort(from.String())
	return name + " sees " + host
}

// deadline is how long an answer may take before a test is lost.
const deadline = 5 * time.Second

// conn is a connection that questions go out on.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func (w *world) dial(from, protocol, to string) (*conn, error) {
	var c net.Conn
	err := w.machines[from].in(func() (err error) {
		c, err = (&net.Dialer{Timeout: deadline}).Dial(protocol, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReader(c)}, nil
}

// ask says something, and gives the answer.
func (c *conn) ask() (string, error) {
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return "", err
	}
	if _, err := c.Write([]byte("who?\n")); err != nil {
		return "", err
	}
	line, err := c.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

// ask makes a connection from one machine to an address, and says who answers, or
// how it is told that nobody does.
func (w *world) ask(from, protocol, to string) string {
	c, err := w.dial(from, protocol, to)
	if err == nil {
		defer c.Close() //nolint:errcheck // has been used
		var text string
		if text, err = c.ask(); err == nil {
			return text
		}
	}
	// TCP is answered by a reset. EPERM is what a datagram of the node itself gets.
	if errors.Is(err, unix.ECONNREFUSED) || protocol == "udp" && (errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EPERM)) {
		return "refused"
	}
	return err.Error()
}

// expect asks until each of the answers was given, and no other.
func (w *world) expect(t *testing.T, from, protocol, to string, want ...string) {
	t.Helper()
	seen := map[string]bool{}
	// One of two equally likely answers stays away 40 times once in 10^12.
	for range 40 {
		got := w.ask(from, protocol, to)
		if !slices.Contains(want, got) {
			t.Errorf("%s from %s to %s: %s, want one of %q", protocol, from, to, got, want)
			return
		}
		if seen[got] = true; len(seen) == len(want) {
			return
		}
	}
	t.Errorf("%s from %s to %s: only %v, want all of %q", protocol, from, to, seen, want)
}
