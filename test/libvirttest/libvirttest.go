// Package libvirttest gives a test a libvirt of its own: real libvirtd, QEMU and
// dnsmasq, with state, storage and a network that nothing else uses, so that
// many run side by side, beside the machine's own libvirt, and none touches it.
//
// The daemons run in process, mount and network namespaces of their own. The
// kernel ends whatever runs in there (libvirtd, virtual machines, dnsmasq)
// together with its first process, and that one ends with the test's process,
// however the test ends: nothing is left behind even by a test that was killed,
// except for its directory in /tmp.
//
// The network `default` (NAT, DHCP; 192.168.122.0/24) is inside the network
// namespace, which has no way out. Host.Command, Host.Do and Host.DialContext
// are the ways in. libvirt's socket and the pool `default` are files of a
// directory that everyone sees.
//
// It needs root and the Debian packages libvirt-daemon-system,
// libvirt-daemon-driver-qemu, libvirt-clients, qemu-system-x86, qemu-utils,
// dnsmasq-base, catatonit and iproute2.
package libvirttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Host is a running hypervisor.
type Host struct {
	// URI is libvirt's, for any process on this machine.
	URI string
	// Pool is the name of a storage pool of type dir, and PoolDir its directory.
	Pool, PoolDir string
	// Network is the name of the NAT network that VMs are attached to.
	Network string
	// Namespace is the path of the network namespace that VMs are reached from.
	Namespace string

	dir    string
	init   *exec.Cmd
	life   io.Closer // the first process ends when this is closed
	exited chan struct{}
}

// startTimeout bounds the start, which takes about a second on an idle machine.
const startTimeout = time.Minute

// Start starts a hypervisor for the test. It skips a -short test, and fails one
// that can't have a hypervisor.
func Start(t testing.TB) *Host {
	t.Helper()
	if testing.Short() {
		t.Skip("needs libvirt and root; left out by -short")
	}
	h, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("libvirtd's log:\n%s", h.Log())
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// New is Start for programs that are no tests. The caller closes the host; ctx
// is for the start only.
func New(ctx context.Context) (*Host, error) {
	if err := preflight(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "libvirt-") // a short name: socket paths are limited
	if err != nil {
		return nil, fmt.Errorf("start libvirt: %w", err)
	}
	h := &Host{
		dir: dir, URI: "qemu+unix:///system?socket=" + dir + "/libvirt-sock",
		Pool: "default", PoolDir: filepath.Join(dir, "pool"), Network: "default",
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = h.configure()
	if err == nil {
		err = h.start(ctx)
	}
	if err == nil {
		err = h.define(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start libvirt: %w\n%s", err, h.Log()), h.Close())
	}
	return h, nil
}

func preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root for a libvirt of its own; run the tests with sudo, or with -short to leave this one out")
	}
	for _, program := range []string{"libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "qemu-img", "dnsmasq", "catatonit", "ip", "nsenter", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing; `scripts/setup` installs what the tests need", program)
		}
	}
	return nil
}

// start runs the daemons and returns when libvirtd answers.
func (h *Host) start(ctx context.Context) error {
	h.init = exec.Command("sh", "-eu", filepath.Join(h.dir, "init"))
	h.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Setsid:     true, // ^C is for the test, which then cleans up
	}
	log, err := os.Create(filepath.Join(h.dir, "init.log"))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has it
	h.init.Stdout, h.init.Stderr = log, log
	if h.life, err = h.init.StdinPipe(); err != nil {
		return err
	}
	if err := h.init.Start(); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	h.exited = make(chan struct{})
	go func() {
		_ = h.init.Wait()
		close(h.exited)
	}()
	h.Namespace = fmt.Sprintf("/proc/%d/ns/net", h.init.Process.Pid)
	return h.awaitAnswer(ctx)
}

func (h *Host) awaitAnswer(ctx context.Context) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		_, err := h.Virsh(ctx, "version")
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-h.exited:
			return errors.New("the daemons did not start")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// define makes the network and the pool.
func (h *Host) define(ctx context.Context) error {
	for _, args := range [][]string{
		{"net-define", filepath.Join(h.dir, "network.xml")},
		{"net-start", h.Network},
		{"pool-define-as", h.Pool, "dir", "--target", h.PoolDir},
		{"pool-start", h.Pool},
	} {
		if _, err := h.Virsh(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Virsh runs virsh on the host and gives what it prints.
func (h *Host) Virsh(ctx context.Context, args ...string) (string, error) {
	output, err := exec.CommandContext(ctx, "virsh", append([]string{"--connect", h.URI}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// usual is what libvirtd logs on a good day: an agent of a guest that still
// boots, a client that left, and a table of addresses that is read otherwise.
var usual = regexp.MustCompile(`(?m)^.*(virArpTableGet|qemuDomainAgentAvailable|virNetSocketReadWire:.*End of file).*\n`)

// Log is the end of what the daemons said, but for the usual.
func (h *Host) Log() string {
	var b strings.Builder
	for _, name := range []string{"init.log", "log/libvirtd.log"} {
		content, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			continue
		}
		content = usual.ReplaceAll(content, nil)
		b.Write(content[max(0, len(content)-8192):])
	}
	return b.String()
}

// Close ends everything that runs on the host, and removes what it kept.
func (h *Host) Close() error {
	if h.exited != nil {
		_ = h.life.Close()
		<-h.exited
	}
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("remove libvirt's files: %w", err)
	}
	return nil
}
