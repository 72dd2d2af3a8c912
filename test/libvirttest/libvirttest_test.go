package libvirttest_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

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
