package links_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/dataplane/links"
	"github.com/skerry-io/skerry/controlplane/dataplane/wireguard"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
func address(text string) netip.Addr  { return netip.MustParseAddr(text) }

// host is a network namespace that stands for a node.
type host struct {
	name, dir string
	number    int
	links     *links.Links
	tunnel    *wireguard.Device
	node      resources.NodeNetwork
}

// newHosts makes two nodes, joined by a veth, with a replica each. Both are on
// front, which is encrypted, and on back, which is not and has no way out.
func newHosts(t *testing.T) [2]*host {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("makes network namespaces, which needs root; left out by -short")
	}
	var all [2]*host
	for i := range all {
		h := &host{name: fmt.Sprintf("skerry-%d-%d", os.Getpid(), i), dir: t.TempDir(), number: i}
		ip(t, "netns add "+h.name)
		t.Cleanup(func() { ip(t, "netns delete "+h.name) })
		ip(t, "-n "+h.name+" link set lo up")
		key, err := wireguard.LoadKey(filepath.Join(h.dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		h.tunnel = h.userspace()
		h.tunnel.Key = key
		h.links = h.open()
		all[i] = h
	}
	ip(t, "link add eth0 netns "+all[0].name+" type veth peer name eth0 netns "+all[1].name)
	for i, h := range all {
		ip(t, fmt.Sprintf("-n %s addr add 192.168.7.%d/24 dev eth0", h.name, i+1))
		ip(t, "-n "+h.name+" link set eth0 up")
		h.node = nodeNetwork(i, all)
		t.Cleanup(func() { h.do(t, func() error { return h.links.Remove(context.Background()) }) })
	}
	return all
}

func (h *host) open() *links.Links {
	return links.New(links.Config{
		Dir: filepath.Join(h.dir, "netns"), Node: resources.NodeID(h.name), Tunnel: h.tunnel, Log: slog.New(slog.DiscardHandler),
		Underlay: func() (netip.Addr, error) { return address(fmt.Sprintf("192.168.7.%d", h.number+1)), nil },
	})
}

// userspace is WireGuard whose process is a goroutine in the host's namespace.
func (h *host) userspace() *wireguard.Device {
	var end context.CancelFunc
	ended := make(chan error, 1)
	stop := func(context.Context) error {
		if end == nil {
			return nil
		}
		end()
		end = nil
		return <-ended
	}
	start := func(base context.Context) error {
		if end != nil {
			return nil
		}
		var ctx context.Context
		ctx, end = context.WithCancel(context.WithoutCancel(base))
		go func() {
			ended <- podmantest.InNamespace("/run/netns/"+h.name, func() error { return wireguard.Run(ctx, h.dir, slog.New(slog.DiscardHandler)) })
		}()
		return nil
	}
	return &wireguard.Device{Dir: h.dir, Start: start, Stop: stop}
}

func nodeNetwork(i int, all [2]*host) resources.NodeNetwork {
	peer := 1 - i
	n := resources.NodeNetwork{
		Map: resources.NetworkMap{Peers: []resources.Peer{{
			Node: resources.NodeID(all[peer].name), Address: address(fmt.Sprintf("192.168.7.%d", peer+1)), PublicKey: all[peer].tunnel.Key.PublicKey().String(),
		}}},
		Replicas: []resources.LocalReplica{{ID: replica(i)}},
	}
	for number, m := range []resources.MappedNetwork{
		{Name: "back", Internal: true, Encryption: resources.EncryptionNone}, {Name: "front", Encryption: resources.EncryptionWireGuard},
	} {
		m.CIDR = prefix(fmt.Sprintf("10.%d.0.0/16", number+1))
		m.Subnet = prefix(fmt.Sprintf("10.%d.%d.0/24", number+1, 32+i))
		n.Map.Networks = append(n.Map.Networks, m)
		n.Map.Peers[0].Subnets = append(n.Map.Peers[0].Subnets, resources.PeerSubnet{Network: m.Name, Subnet: prefix(fmt.Sprintf("10.%d.%d.0/24", number+1, 32+peer))})
		n.Replicas[0].Addresses = append(n.Replicas[0].Addresses, resources.NetworkAddress{Network: m.Name, Address: at(m.Name, i)})
	}
	return n
}

func replica(i int) resources.ReplicaID { return resources.ReplicaID(fmt.Sprintf("web-%d-x", i)) }

// at is the address of a host's replica on a network.
func at(network string, i int) netip.Addr {
	return address(fmt.Sprintf("10.%d.%d.2", map[string]int{"back": 1, "front": 2}[network], 32+i))
}

func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

func (h *host) do(t *testing.T, f func() error) {
	t.Helper()
	if err := podmantest.InNamespace("/run/netns/"+h.name, f); err != nil {
		t.Fatalf("on %s: %v", h.name, err)
	}
}

func (h *host) apply(t *testing.T) {
	t.Helper()
	h.do(t, func() error { return h.links.Apply(t.Context(), h.node) })
}

// dump is all that a person sees of a namespace's network.
func dump(t *testing.T, namespace string) string {
	t.Helper()
	var all strings.Builder
	for _, what := range []string{"-d -o link", "-o addr", "route", "neigh show nud permanent", "-6 route show proto static"} {
		var complaints strings.Builder // ip has some of its own while other namespaces come and go
		command := exec.Command("nsenter", append([]string{"--net=" + namespace, "ip"}, strings.Fields(what)...)...)
		command.Stderr = &complaints
		out, err := command.Output()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", what, err, complaints.String())
		}
		fmt.Fprintf(&all, "%s:\n%s", what, out)
	}
	return all.String()
}

func (h *host) place() string             { return "/run/netns/" + h.name }
func (h *host) inside() string            { return filepath.Join(h.dir, "netns", string(replica(h.number))) }
func (h *host) dumps(t *testing.T) string { return dump(t, h.place()) + dump(t, h.inside()) }

// Replicas on two nodes reach each other on every network, from their address
// there, with packets of the full size.
func TestBetweenNodes(t *testing.T) {
	hosts := newHosts(t)
	for _, h := range hosts {
		h.apply(t)
	}
	for network, encryption := range map[string]int{"front": 60, "back": 50} {
		to := netip.AddrPortFrom(at(network, 1), 8080).String()
		var server net.PacketConn
		must(t, podmantest.InNamespace(hosts[1].inside(), func() (err error) {
			server, err = net.ListenPacket("udp", to)
			return err
		}))
		defer server.Close() //nolint:errcheck // it goes with the test
		var client net.Conn
		must(t, podmantest.InNamespace(hosts[0].inside(), func() (err error) {
			client, err = net.Dial("udp", to)
			return err
		}))
		defer client.Close() //nolint:errcheck // it goes with the test
		fragmentNothing(t, client)
		// The replica is on both networks: the smaller packets of front count.
		full := 1500 - max(encryption, 60) - 28
		buffer := make([]byte, 2000)
		deadline := time.Now().Add(20 * time.Second)
		for size := 0; size != full; {
			// The first ones may be lost while WireGuard shakes hands.
			if _, err := client.Write(make([]byte, full)); err != nil {
				t.Fatalf("send %d bytes on %s: %v", full, network, err)
			}
			must(t, server.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
			n, from, err := server.ReadFrom(buffer)
			if err == nil {
				size = n
				if got := from.(*net.UDPAddr).AddrPort().Addr(); got != at(network, 0) {
					t.Errorf("on %s a packet comes from %s, want %s", network, got, at(network, 0))
				}
			} else if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
				t.Fatalf("receive on %s: %v", network, err)
			}
		}
		if _, err := client.Write(make([]byte, full+1)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("a packet that is too big for %s: %v", network, err)
		}
	}
	// An address that nobody has is refused at once.
	err := podmantest.InNamespace(hosts[0].inside(), func() error {
		_, err := net.DialTimeout("tcp", "10.2.32.77:80", 5*time.Second)
		return err
	})
	if !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("an address that nobody has: %v", err)
	}
}

// fragmentNothing sets DF, whatever is known of the way.
func fragmentNothing(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE))
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A second Apply, and one by an agent that was restarted, change nothing.
func TestApplyAgain(t *testing.T) {
	h := newHosts(t)[0]
	h.apply(t)
	before := h.dumps(t)
	h.apply(t)
	if diff := cmp.Diff(before, h.dumps(t)); diff != "" {
		t.Errorf("applied again (-before +after):\n%s", diff)
	}
	h.links = h.open()
	h.apply(t)
	if diff := cmp.Diff(before, h.dumps(t)); diff != "" {
		t.Errorf("applied after a restart (-before +after):\n%s", diff)
	}
}

// A connection between replicas goes on while agents are restarted.
func TestTrafficGoesOn(t *testing.T) {
	hosts := newHosts(t)
	for _, h := range hosts {
		h.apply(t)
	}
	to := netip.AddrPortFrom(at("front", 1), 8080).String()
	var listener net.Listener
	must(t, podmantest.InNamespace(hosts[1].inside(), func() (err error) {
		listener, err = net.Listen("tcp", to)
		return err
	}))
	defer listener.Close() //nolint:errcheck // it goes with the test
	go func() {
		if c, err := listener.Accept(); err == nil {
			io.Copy(c, c) //nolint:errcheck // it ends with the client
			c.Close()     //nolint:errcheck // see above
		}
	}()
	var client net.Conn
	must(t, podmantest.InNamespace(hosts[0].inside(), func() (err error) {
		client, err = net.DialTimeout("tcp", to, 20*time.Second)
		return err
	}))
	defer client.Close() //nolint:errcheck // it goes with the test
	one := make([]byte, 1)
	for turn := range 40 {
		h := hosts[turn%2]
		h.links = h.open()
		h.apply(t)
		must(t, client.SetDeadline(time.Now().Add(time.Second)))
		if _, err := client.Write(one); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, one); err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
	}
}

// What is wanted no more goes, what somebody removed comes back, and a replica
// that comes back after a reboot has its namespace at the same path.
func TestMending(t *testing.T) {
	h := newHosts(t)[0]
	h.apply(t)
	all, want := h.node, h.dumps(t)
	h.node.Replicas = nil
	h.node.Map.Peers = nil
	h.apply(t)
	if left := dump(t, h.place()); strings.Contains(left, "skr-") || strings.Contains(left, "skerry-wg") || strings.Contains(left, "skerry-vx") || strings.Contains(left, "10.2.33.") {
		t.Errorf("left of what is not wanted any more:\n%s", left)
	}
	if files, err := os.ReadDir(filepath.Join(h.dir, "netns")); err != nil || len(files) > 0 {
		t.Errorf("left of namespaces: %v, %v", files, err)
	}
	h.node = all
	h.apply(t)
	if got := h.dumps(t); strings.Count(got, "\n") != strings.Count(want, "\n") {
		t.Errorf("before:\n%s\nonce all is back:\n%s", want, got)
	}
	for what, breakIt := range map[string]func(){
		"the veth": func() {
			h.do(t, func() error {
				out, err := exec.Command("sh", "-c", "ip link delete $(ip -o link | grep -o 'skr-[0-9a-f]*' | head -1)").CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
		},
		"the namespace": func() {
			must(t, unix.Unmount(h.inside(), unix.MNT_DETACH))
			h.links = h.open()
		},
		"a route": func() { ip(t, "-n "+h.name+" route delete 10.2.32.2") },
	} {
		breakIt()
		h.apply(t)
		if got := h.dumps(t); strings.Count(got, "\n") != strings.Count(want, "\n") {
			t.Errorf("%s was removed; before:\n%s\nafter:\n%s", what, want, got)
		}
	}
}

// Nothing is left of what was made, whoever made it.
func TestRemove(t *testing.T) {
	h := newHosts(t)[0]
	before := dump(t, h.place())
	h.apply(t)
	h.links = h.open()
	for range 2 {
		h.do(t, func() error { return h.links.Remove(t.Context()) })
		if diff := cmp.Diff(before, dump(t, h.place())); diff != "" {
			t.Errorf("left (-before +after):\n%s", diff)
		}
	}
}

// Files are closed, however often it is applied.
func TestNoFileStaysOpen(t *testing.T) {
	h := newHosts(t)[0]
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(all)
	}
	h.apply(t)
	before := count()
	for range 50 {
		h.links = h.open() // looks into the namespace each time
		h.apply(t)
	}
	if after := count(); after > before+5 {
		t.Errorf("%d files are open, and there were %d", after, before)
	}
}
