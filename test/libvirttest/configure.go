package libvirttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// initScript is the first process of the namespaces. What the daemons have for
// the machine's is this host's; D-Bus and control groups are hidden, through
// which systemd would get to know the VMs. catatonit waits for orphans, which
// daemons and VMs are, and ends when standard input does. A /dev/kvm that QEMU's
// user may not open is hidden: libvirt's probe can open it, so that libvirt takes
// what it found for outdated, and probes anew, for seconds, in each call.
const initScript = `
mount --make-rprivate /
mount -t proc proc /proc
for place in etc run lib log cache; do
	case $place in
	etc) target=/etc/libvirt ;;
	run) target=/run/libvirt ;;
	*) target=/var/$place/libvirt ;;
	esac
	mkdir -p $target
	mount --bind DIR/$place $target
done
if [ -e /dev/kvm ] && ! runuser -u libvirt-qemu -- test -r /dev/kvm -a -w /dev/kvm; then
	: >DIR/kvm
	mount --bind DIR/kvm /dev/kvm
fi
if [ -d /run/dbus ]; then mount --bind DIR/empty /run/dbus; fi
umount -R /sys/fs/cgroup 2>/dev/null || true
ip link set lo up
virtlogd --daemon --pid-file DIR/virtlogd.pid
libvirtd --daemon --pid-file DIR/libvirtd.pid
exec catatonit -- cat
`

var files = map[string]string{
	"init": initScript,
	"etc/libvirtd.conf": `unix_sock_dir = "DIR"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
log_outputs = "2:file:DIR/log/libvirtd.log"
`,
	"etc/virtlogd.conf": "",
	// The namespaces and groups that libvirt adds to each VM need more of the
	// machine than a container has.
	"etc/qemu.conf": `security_driver = "none"
namespaces = []
cgroup_controllers = []
`,
	"network.xml": `<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='off' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
  </ip>
</network>
`,
}

// configure writes what the daemons find.
func (h *Host) configure() error {
	// QEMU has a user of its own, which must get to its disks.
	if err := os.Chmod(h.dir, 0o711); err != nil {
		return err
	}
	for _, name := range []string{"etc", "run", "lib", "log", "cache", "pool", "empty"} {
		if err := os.Mkdir(filepath.Join(h.dir, name), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		text = strings.ReplaceAll(text, "DIR", h.dir)
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("configure: %w", err)
		}
	}
	return nil
}
