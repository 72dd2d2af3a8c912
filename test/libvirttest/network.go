package libvirttest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Command runs a program in the host's network, from where VMs are reached,
// and otherwise as any other: with the files and processes of this machine.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.Namespace, name}, args...)...)
}

// SSH gives a command that runs a command line on a machine as root. It trusts
// whatever host key the machine shows: the way there is the test's own. A login takes
// seconds under emulation, and serves the commands that follow, too, until the machine
// is silent for long; its process ends with the host.
func (h *Host) SSH(ctx context.Context, key, address, line string) *exec.Cmd {
	args := []string{"-i", key}
	for _, option := range []string{
		"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=30",
		"ControlMaster=auto", "ControlPersist=yes", "ControlPath=" + filepath.Join(h.dir, "ssh-%C"), "ServerAliveInterval=5", "ServerAliveCountMax=3",
	} {
		args = append(args, "-o", option)
	}
	return h.Inside(ctx, "ssh", append(args, "root@"+address, line)...)
}

// Inside runs a program where the daemons and VMs run: it sees the host's
// processes under the numbers that they have there, and the host's /etc/libvirt,
// /run/libvirt and /var/lib/libvirt.
func (h *Host) Inside(ctx context.Context, name string, args ...string) *exec.Cmd {
	target := strconv.Itoa(h.init.Process.Pid)
	c := exec.CommandContext(ctx, "nsenter", append([]string{"--target", target, "--net", "--mount", "--pid", "--ipc", name}, args...)...)
	// nsenter is a process of its own, without which the program goes on until the host
	// ends, and holds what it writes to.
	c.WaitDelay = 5 * time.Second
	return c
}

// Do calls f on a thread in the host's network. Sockets that f makes stay there;
// f must make them itself, in no other goroutine, so addresses are IP addresses.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so it ends with this goroutine and
		// nobody else is run in the namespace.
		runtime.LockOSThread()
		result <- func() error {
			namespace, err := os.Open(h.Namespace)
			if err != nil {
				return fmt.Errorf("enter the host's network: %w", err)
			}
			defer namespace.Close() //nolint:errcheck // nothing was written
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the host's network: %w", err)
			}
			return f()
		}()
	}()
	return <-result
}

// DialContext dials an IP address and port in the host's network.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Client gives an HTTP client that reaches VMs by their addresses. It keeps no
// connection.
func (h *Host) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: h.DialContext}}
}
