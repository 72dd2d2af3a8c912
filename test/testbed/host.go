package testbed

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
)

// Host is a node without a VM: `skerry dev` over a Podman of its own.
type Host struct {
	Podman *podmantest.Service
	// Endpoint of its agent, once it has started.
	Endpoint string
	// Dir is what skerry keeps there; it outlives a power cut.
	Dir string

	program string
	args    []string
	process *exec.Cmd
	logs    string
	bed     *Bed
	number  int
}

// NewHost makes a host that stands alone, with more arguments for skerry dev.
// It has no power yet: see Start.
func NewHost(t testing.TB, program string, args ...string) *Host {
	t.Helper()
	h := &Host{Podman: podmantest.StartService(t), program: program, args: args, logs: filepath.Join(t.TempDir(), "skerry.log")}
	// Not t.TempDir: the path of a unix socket is short.
	dir, err := os.MkdirTemp("", "skerry-dev") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	h.Dir = dir
	t.Cleanup(func() {
		h.End(os.Interrupt)
		h.forget(t)
		os.RemoveAll(dir) //nolint:errcheck // a directory in the temporary directory
		if t.Failed() {
			if text, err := os.ReadFile(h.logs); err == nil {
				t.Logf("skerry dev in %s said:\n%s", h.Podman.Namespace, text)
			}
		}
	})
	return h
}

// Start runs skerry dev, and returns once its agent has said its endpoint.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	h.process = exec.Command("nsenter", append([]string{
		"--net=/run/netns/" + h.Podman.Namespace, h.program, "dev", "--dir", h.Dir, "--podman", h.Podman.Socket,
	}, h.args...)...)
	out, err := h.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logs, err := os.OpenFile(h.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close() //nolint:errcheck // the process has its own
	h.process.Stderr = logs
	if err := h.process.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("skerry dev ended before it said its endpoint: %v", err)
	}
	h.Endpoint = strings.TrimSpace(line)
}

// End ends skerry with a signal, if it runs. Its containers run on.
func (h *Host) End(signal os.Signal) {
	if h.process == nil {
		return
	}
	h.process.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it may have ended; what is stalled would not
	children := h.children()
	h.process.Process.Signal(signal) //nolint:errcheck // it may have ended
	h.process.Wait()                 //nolint:errcheck // it was ended
	h.process = nil
	// Its own processes end with it, which takes them a moment.
	for _, fd := range children {
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000) //nolint:errcheck // the next one is waited for
		unix.Close(fd)                                                       //nolint:errcheck // nothing was written
	}
}

// children gives the processes that skerry on the host has started, as
// descriptors.
func (h *Host) children() []int {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var all []int
	for _, process := range processes {
		line, err := os.ReadFile(filepath.Join(process, "cmdline"))
		pid, notOne := strconv.Atoi(filepath.Base(process))
		if err != nil || notOne != nil || !strings.Contains(string(line), filepath.Join(h.Dir, "run", "network")) {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			all = append(all, fd)
		}
	}
	return all
}

// Memory is what skerry on the host has resident, in bytes.
func (h *Host) Memory(t testing.TB) resources.Bytes {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.process.Process.Pid))
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

// Stall stops skerry in the middle of what it does, until Resume.
func (h *Host) Stall(t testing.TB) { h.signal(t, syscall.SIGSTOP) }

// Resume lets it go on.
func (h *Host) Resume(t testing.TB) { h.signal(t, syscall.SIGCONT) }

func (h *Host) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := h.process.Process.Signal(s); err != nil {
		t.Fatalf("signal skerry on %s: %v", h.Podman.Namespace, err)
	}
}

// PowerOff ends all that runs on the host at once, its containers too, and what
// was not on the disk is lost.
func (h *Host) PowerOff(t testing.TB) {
	t.Helper()
	h.End(os.Kill)
	h.Podman.PowerOff(t)
	h.forget(t)
	if h.bed != nil {
		// It goes with the host's namespace, and the kernel takes its time for that.
		exec.Command("ip", "-n", h.bed.namespace, "link", "delete", port(h.number)).Run() //nolint:errcheck // it may have gone
	}
}

// Logs is the file of what skerry on the host has said.
func (h *Host) Logs() string { return h.logs }

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
		if fields := strings.Fields(line); len(fields) > 4 && (strings.HasPrefix(fields[4], filepath.Join(h.Dir, "data")+"/") || fields[4] == secrets) {
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
	h.Podman.PowerOn(t)
	if h.bed != nil {
		h.plug(t)
	}
	h.Start(t)
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
	var all []resources.Endpoint
	for _, h := range hosts {
		all = append(all, resources.Endpoint{Socket: filepath.Join(h.Dir, "run", "server.sock")})
	}
	return dialer.Server(all...)
}

// Endpoints gives the hosts' endpoints as a list in HCL.
func Endpoints(hosts ...*Host) string {
	var all []string
	for _, h := range hosts {
		all = append(all, fmt.Sprintf("%q", h.Endpoint))
	}
	return strings.Join(all, ", ")
}
