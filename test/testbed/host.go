package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
)

// Host is a node without a VM.
type Host struct {
	Podman *podmantest.Service
	// Endpoint of its agent, once it has started.
	Endpoint string
	// Dir is what skerry keeps there; it outlives a power cut.
	Dir string

	t       testing.TB
	program string
	runs    processes
	bed     *Bed
	number  int
}

// processes are those of skerry's on a host.
type processes interface {
	// boot begins to start them, and await returns once they answer.
	boot(t testing.TB)
	await(t testing.TB)
	// end ends units with a signal, until the next boot.
	end(t testing.TB, s syscall.Signal, all ...Unit)
	signal(t testing.TB, unit Unit, s syscall.Signal)
	pid(unit Unit) int
	// logs is the file of what they have said.
	logs() string
}

// NewHost makes a host that stands alone: `skerry dev`, with more arguments, over
// a Podman of its own. It has no power yet: see Start.
func NewHost(t testing.TB, program string, args ...string) *Host {
	t.Helper()
	h := newHost(t, program)
	h.runs = &foreground{host: h, args: args, file: filepath.Join(t.TempDir(), "skerry.log")}
	return h
}

func newHost(t testing.TB, program string) *Host {
	t.Helper()
	h := &Host{Podman: podmantest.StartService(t), t: t, program: program}
	// Not t.TempDir: the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "skerry-dev") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	h.Dir = dir
	t.Cleanup(func() {
		h.runs.end(t, syscall.SIGTERM, all...)
		h.forget(t)
		if text, err := os.ReadFile(h.runs.logs()); err == nil && t.Failed() {
			t.Logf("skerry in %s said:\n%s", h.Podman.Namespace, text)
		}
		syscall.Unmount(filepath.Join(dir, "data"), syscall.MNT_DETACH) //nolint:errcheck // it may be none: see SmallDisk
		os.RemoveAll(dir)                                               //nolint:errcheck // a directory in the temporary directory
	})
	return h
}

// Start boots the host, and returns once its agent answers, and its server where
// it has one.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	h.runs.boot(t)
	h.runs.await(t)
}

// Start boots hosts that may need each other.
func Start(t testing.TB, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		h.runs.boot(t)
	}
	for _, h := range hosts {
		h.runs.await(t)
	}
}

// End ends agent and server with a signal, if they run, until the next Start. The
// containers run on.
func (h *Host) End(signal os.Signal) {
	end := syscall.SIGTERM
	if signal == os.Kill {
		end = syscall.SIGKILL
	}
	h.runs.end(h.t, end, control...)
}

// Kill kills a unit, if it runs there; the host starts it again after a second.
func (h *Host) Kill(t testing.TB, unit Unit) {
	t.Helper()
	h.runs.signal(t, unit, syscall.SIGKILL)
}

// Process is the ID of a unit's process; 0 where it does not run.
func (h *Host) Process(unit Unit) int { return h.runs.pid(unit) }

// Memory is what a unit of the host has resident, in bytes.
func (h *Host) Memory(t testing.TB, unit Unit) resources.Bytes {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.runs.pid(unit)))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	line, _, _ := strings.Cut(rest, "\n")
	size, err := resources.ParseBytes(strings.ReplaceAll(strings.TrimSpace(line), " kB", "KiB"))
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// Stall stops agent and server in the middle of what they do, until Resume.
func (h *Host) Stall(t testing.TB) { h.signal(t, syscall.SIGSTOP) }

// Resume lets them go on.
func (h *Host) Resume(t testing.TB) { h.signal(t, syscall.SIGCONT) }

func (h *Host) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	for _, unit := range control {
		h.runs.signal(t, unit, s)
	}
}

// PowerOff ends all that runs on the host at once, its containers too, and what
// was not on the disk is lost. Nobody is told: what would close connections does
// not get out any more.
func (h *Host) PowerOff(t testing.TB) {
	t.Helper()
	if h.bed != nil {
		ip(t, "-n", h.bed.namespace, "link", "delete", port(h.number))
	}
	h.runs.end(t, syscall.SIGKILL, all...)
	h.Podman.PowerOff(t)
	h.forget(t)
}

// registriesConf is where its Podman learns how registries are reached.
func (h *Host) registriesConf() string {
	return filepath.Join(h.Podman.RegistriesDir(), "skerry-cluster.conf")
}

// Logs is what skerry on the host has said.
func (h *Host) Logs(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(h.runs.logs())
	if err != nil || len(text) == 0 {
		t.Fatalf("read what skerry in %s has said: %v", h.Podman.Namespace, err)
	}
	return text
}

// forget loses what is in memory only: the network namespaces of replicas, the
// files beside them, their secrets, and what is mounted.
func (h *Host) forget(t testing.TB) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(h.Dir, "run", "secrets")
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) { // the innermost come last
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == secrets || strings.HasPrefix(fields[4], filepath.Join(h.Dir, "data")+"/")) {
			unix.Unmount(fields[4], unix.MNT_DETACH) //nolint:errcheck // it may have gone with another one
		}
	}
	if err := os.RemoveAll(secrets); err != nil {
		t.Error(err)
	}
	run := filepath.Join(h.Dir, "run", "network")
	namespaces, err := filepath.Glob(filepath.Join(run, "netns", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range namespaces {
		unix.Unmount(n, unix.MNT_DETACH) //nolint:errcheck // it may be none
	}
	if err := os.RemoveAll(run); err != nil {
		t.Error(err)
	}
}

// PowerOn boots the host again.
func (h *Host) PowerOn(t testing.TB) {
	t.Helper()
	PowerOn(t, h)
}

// PowerOn boots hosts again that may need each other.
func PowerOn(t testing.TB, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		h.Podman.PowerOn(t)
		if h.bed != nil {
			h.plug(t)
		}
	}
	Start(t, hosts...)
}

// Node is the ID of the host's node.
func (h *Host) Node(t testing.TB) resources.NodeID {
	t.Helper()
	endpoints, err := resources.ParseEndpoints(h.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return endpoints[0].Node
}

// Control gives the API of the cluster through the servers on these hosts, the
// first one that answers. It is closed with the test.
func Control(t testing.TB, hosts ...*Host) *client.Server {
	t.Helper()
	dialer := client.NewDialer(client.Options{})
	t.Cleanup(dialer.Close)
	var servers []resources.Endpoint
	for _, h := range hosts {
		servers = append(servers, resources.Endpoint{Socket: filepath.Join(h.Dir, "run", "server.sock")})
	}
	return dialer.Server(servers...)
}

// Endpoints gives the hosts' endpoints as a list in HCL.
func Endpoints(hosts ...*Host) string {
	var list []string
	for _, h := range hosts {
		list = append(list, fmt.Sprintf("%q", h.Endpoint))
	}
	return strings.Join(list, ", ")
}
