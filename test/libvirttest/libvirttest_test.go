package libvirttest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/skerry-io/skerry/test/libvirttest"
)

// tiny is a machine that is stopped before its first instruction.
const tiny = `<domain type='qemu'>
  <name>tiny</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='volume' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source pool='default' volume='tiny'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'><source network='default'/><model type='virtio'/></interface>
    <serial type='pty'><log file='/var/log/libvirt/tiny.log'/></serial>
  </devices>
</domain>`

// start makes the tiny machine over a connection of this process.
func start(t *testing.T, h *libvirttest.Host) {
	t.Helper()
	conn, err := libvirt.NewConnect(h.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test has its result
	pool, err := conn.LookupStoragePoolByName(h.Pool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.StorageVolCreateXML(`<volume><name>tiny</name><capacity unit='MiB'>8</capacity><target><format type='qcow2'/></target></volume>`, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.PoolDir + "/tiny"); err != nil {
		t.Error(err)
	}
	domain, err := conn.DomainDefineXML(tiny)
	if err != nil {
		t.Fatal(err)
	}
	if err := domain.CreateWithFlags(libvirt.DOMAIN_START_PAUSED); err != nil {
		t.Fatal(err)
	}
}

// processes gives the command lines of this machine that mention text.
func processes(t *testing.T, text string) (found []string) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// A running machine goes with the host, and so does everything else.
func TestNothingIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("needs libvirt and root; left out by -short")
	}
	h, err := libvirttest.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSuffix(h.PoolDir, "/pool")
	start(t, h)
	// libvirtd, virtlogd and QEMU name the directory.
	if found := processes(t, dir); len(found) < 3 {
		t.Errorf("these processes run on the host: %q", found)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if found := processes(t, dir); len(found) > 0 {
		t.Errorf("these processes are left: %q", found)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("something is mounted from %s", dir)
	}
}

// A test that is killed cleans nothing up; its machines go all the same. The
// first run of this test runs it once more, and kills that.
func TestNothingRunsAfterAKill(t *testing.T) {
	const variable = "LIBVIRTTEST_KILLED"
	if os.Getenv(variable) != "" {
		h := libvirttest.Start(t)
		start(t, h)
		fmt.Println("started", h.Namespace, h.PoolDir)
		select {}
	}
	if testing.Short() {
		t.Skip("needs libvirt and root; left out by -short")
	}
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingRunsAfterAKill$")
	test.Env = append(os.Environ(), variable+"=yes")
	output, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var pool string
	if _, err := fmt.Fscanf(output, "started /proc/%d/ns/net %s\n", &pid, &pool); err != nil {
		_ = test.Process.Kill()
		rest, _ := io.ReadAll(output)
		t.Fatal(err, test.Wait(), string(rest))
	}
	dir := strings.TrimSuffix(pool, "/pool")
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	first, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(first) //nolint:errcheck // it was waited for
	if err := test.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = test.Wait()
	for {
		ended, err := unix.Poll([]unix.PollFd{{Fd: int32(first), Events: unix.POLLIN}}, 60_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || ended == 0 {
			t.Fatalf("the first process of the host has not ended: %v", err)
		}
		break
	}
	if found := processes(t, dir); len(found) > 0 {
		t.Errorf("these processes are left: %q", found)
	}
}

// Machines stop at once, and those of one host are not another's, which has the
// same names and addresses.
func TestHostsAreApart(t *testing.T) {
	one, two := libvirttest.Start(t), libvirttest.Start(t)
	start(t, one)
	start(t, two)
	for _, args := range [][]string{{"destroy", "tiny"}, {"undefine", "tiny"}} {
		if _, err := one.Virsh(t.Context(), args...); err != nil {
			t.Error(err)
		}
	}
	if list, err := one.Virsh(t.Context(), "list", "--all", "--name"); err != nil || strings.TrimSpace(list) != "" {
		t.Errorf("machines of the first host: %q, %v", list, err)
	}
	if state, err := two.Virsh(t.Context(), "domstate", "tiny"); err != nil || strings.TrimSpace(state) != "paused" {
		t.Errorf("machine of the second host: %q, %v", state, err)
	}
}

// Whatever is in the host's network is reached from the test and from
// programs that the test runs there, and from nowhere else.
func TestNetwork(t *testing.T) {
	h := libvirttest.Start(t)
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "192.168.122.1:8080")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go server.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = server.Close() })

	response, err := h.Client().Get("http://192.168.122.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if output, err := h.Command(t.Context(), "ip", "-br", "addr", "show", "virbr0").CombinedOutput(); err != nil || !strings.Contains(string(output), "192.168.122.1/24") {
		t.Errorf("the bridge: %s, %v", output, err)
	}
	if output, err := h.Inside(context.Background(), "cat", "/run/libvirt/network/default.pid").CombinedOutput(); err != nil {
		t.Errorf("dnsmasq: %s, %v", output, err)
	}
	if output, err := h.Command(t.Context(), "ip", "route", "show", "default").CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("the host has a way out: %s, %v", output, err)
	}
}
