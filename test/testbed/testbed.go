// Package testbed is many hosts on one machine, for tests of a cluster and of
// what goes wrong in one.
//
// A host is a network namespace with a real Podman, and `skerry agent` and, where
// the cluster wants it, `skerry server` over it: processes of their own, which are
// started again when they end, as systemd does on a node. The hosts are joined by
// veths to a bridge in a namespace of the bed, which nothing leaves. They share
// the machine's clock, processors, memory, process IDs and cgroups.
//
//	bed := testbed.New(t, program, 3)
//	bed.Hosts[0].PowerOff(t)
//	bed.Part(t, bed.Hosts[1])
//	bed.Heal(t)
//
// It needs root and what scripts/setup installs. With the test goes all that it
// made.
package testbed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/test/podmantest"
)

// Bed is a set of hosts that reach each other.
type Bed struct {
	Hosts []*Host

	namespace string
	sides     int
}

// New starts n hosts with a program of skerry's.
func New(t testing.TB, program string, n int) *Bed {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Podman and root; left out by -short")
	}
	dir, err := os.MkdirTemp("", "skerry-bed") //nolint:usetesting // it is the name of a network namespace
	if err != nil {
		t.Fatal(err)
	}
	b := &Bed{namespace: filepath.Base(dir)}
	t.Cleanup(func() {
		exec.Command("ip", "netns", "delete", b.namespace).Run() //nolint:errcheck // it may not be there
		os.Remove(dir)                                           //nolint:errcheck // a directory in the temporary directory
	})
	ip(t, "netns", "add", b.namespace)
	b.addBridge(t, bridge(0))
	for i := range n {
		h := newHost(t, program)
		h.bed, h.number = b, i
		h.runs = newUnits(t, h, fmt.Sprintf("host%d", i))
		h.plug(t)
		b.Hosts = append(b.Hosts, h)
	}
	Start(t, b.Hosts...)
	return b
}

// Address of a host. Its number follows the network card's, so that nobody has
// to learn it anew after a power cut.
func Address(host int) string { return fmt.Sprintf("10.77.0.%d", host+1) }

func port(host int) string { return fmt.Sprintf("host%d", host) }

// bridge is the one of a side; the whole network is side 0.
func bridge(side int) string { return fmt.Sprintf("side%d", side) }

func (b *Bed) addBridge(t testing.TB, name string) {
	t.Helper()
	ip(t, "-n", b.namespace, "link", "add", name, "type", "bridge")
	ip(t, "-n", b.namespace, "link", "set", name, "up")
}

// plug joins a host to the network.
func (h *Host) plug(t testing.TB) {
	t.Helper()
	mac := fmt.Sprintf("02:77:00:00:00:%02x", h.number+1)
	// The one from before a power cut may be there for a moment: the kernel removes
	// namespaces when it finds the time.
	exec.CommandContext(t.Context(), "ip", "-n", h.bed.namespace, "link", "delete", port(h.number)).Run() //nolint:errcheck // mostly there is none
	ip(t, "-n", h.bed.namespace, "link", "add", port(h.number), "type", "veth", "peer", "name", "eth0", "address", mac, "netns", h.Podman.Namespace)
	ip(t, "-n", h.bed.namespace, "link", "set", port(h.number), "master", bridge(0), "up")
	ip(t, "-n", h.Podman.Namespace, "addr", "add", Address(h.number)+"/24", "dev", "eth0")
	ip(t, "-n", h.Podman.Namespace, "link", "set", "eth0", "up")
	// Where bridges pass packets through the filter, some faults don't show.
	const filtered = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	err := podmantest.InNamespace("/run/netns/"+h.Podman.Namespace, func() error { return os.WriteFile(filtered, []byte("0"), 0) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// Outside is a place on a machine beside the hosts, which they reach and which is
// none of them, and its address. It goes with the test.
func (b *Bed) Outside(t testing.TB) (place Replica, address string) {
	t.Helper()
	const namespace = "outside"
	address = "10.77.0.254"
	name := b.namespace + "-" + namespace
	ip(t, "netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", name).Run() }) //nolint:errcheck // it goes
	ip(t, "-n", b.namespace, "link", "add", namespace, "type", "veth", "peer", "name", "eth0", "netns", name)
	ip(t, "-n", b.namespace, "link", "set", namespace, "master", bridge(0), "up")
	ip(t, "-n", name, "addr", "add", address+"/24", "dev", "eth0")
	ip(t, "-n", name, "link", "set", "eth0", "up")
	return Replica{"/run/netns/" + name}, address
}

// Part cuts these hosts off from all others; between themselves nothing
// changes. Nobody is told: what is sent to the other side is lost.
func (b *Bed) Part(t testing.TB, hosts ...*Host) {
	t.Helper()
	b.sides++
	b.addBridge(t, bridge(b.sides))
	for _, h := range hosts {
		ip(t, "-n", b.namespace, "link", "set", port(h.number), "master", bridge(b.sides))
	}
}

// Heal undoes all that Part did.
func (b *Bed) Heal(t testing.TB) {
	t.Helper()
	for _, h := range b.Hosts {
		ip(t, "-n", b.namespace, "link", "set", port(h.number), "master", bridge(0))
	}
	for ; b.sides > 0; b.sides-- {
		ip(t, "-n", b.namespace, "link", "delete", bridge(b.sides))
	}
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
