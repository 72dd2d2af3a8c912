// Package firstboot makes a machine a node, from the seed disk that it boots
// with: it mounts the data disk, takes the node's identity and host key, puts
// the skerry program in its place, and starts the agent.
//
// The node image runs it from a unit of its own, and a stock cloud image
// through cloud-init; both end in Run. What it writes is made by pure functions
// (files.go). It can be run again: each step finds what it did before.
//
// A machine that was there already has neither: Adopt makes it a node, Abandon
// takes skerry off it again (adopt.go). Renew is what follows a new program.
package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/resources"
)

// Where things are on a node.
const (
	Data    = "/var/lib/skerry"
	program = "/usr/local/bin/skerry"
	done    = "/var/lib/skerry-firstboot.done"
	hostKey = "/etc/ssh/ssh_host_ed25519_key"
	// units is where systemd looks for what the machine's owner adds.
	units     = "/etc/systemd/system"
	agentUnit = "skerry-agent.service"
	// serverUnit is started by the agent, where the node is a server.
	serverUnit = "skerry-server.service"
	podmanUnit = "/usr/lib/systemd/system/podman.socket"
	// loginKeys is the agent's to write from its start on.
	loginKeys = "/root/.ssh/authorized_keys"
)

// networkUnits are started by the agent, once the node is on networks.
var networkUnits = []string{"skerry-dns.service", "skerry-tunnel.service"}

// Run makes this machine the node of the seed in dir.
func Run(ctx context.Context, dir string, log *slog.Logger) error {
	seed, err := readSeed(dir)
	if err != nil {
		return err
	}
	log.Info("this machine becomes a node", "name", seed.Name, "id", seed.ID)
	var news bool // for systemd
	steps := []struct {
		name string
		do   func() error
	}{
		{"mount the data disk", func() error { return mountData(ctx, seed) }},
		{"keep the identity", func() error { return identify(seed) }},
		{"take the host key", func() error { return takeHostKey(seed) }},
		{"let the owner log in", func() error { return takeLoginKeys(loginKeys, seed.AuthorizedKeys) }},
		{"write the configuration", func() error { news, err = configure(seed); return err }},
		{"take the name", func() error { return takeName(seed.Name) }},
		{"take the addresses", func() error { return takeAddresses(ctx, seed) }},
		{"run skerry from the seed", func() error { return link(filepath.Join(dir, "skerry"), program, cloudInit()) }},
		{"start the agent", func() error { return startAgent(ctx, news) }},
		{"install skerry", func() error { return installWhenBooted(ctx, program) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		log.Info("done", "step", step.name)
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		return fmt.Errorf("keep that the first boot is done: %w", err)
	}
	return nil
}

func readSeed(dir string) (resources.NodeSeed, error) {
	var seed resources.NodeSeed
	text, err := os.ReadFile(filepath.Join(dir, "skerry.json"))
	if err == nil {
		err = json.Unmarshal(text, &seed)
	}
	if err == nil && (seed.ID == "" || seed.Name == "") {
		err = errors.New("it names no node")
	}
	if err != nil {
		return seed, fmt.Errorf("read the seed: %w", err)
	}
	return seed, nil
}

// mountData puts the data disk under Data, with a file system where it has
// none yet, grown to the disk.
func mountData(ctx context.Context, seed resources.NodeSeed) error {
	if err := os.MkdirAll(Data, 0o700); err != nil {
		return err
	}
	if !seed.DataDisk || run(ctx, "mountpoint", "-q", Data) == nil {
		return nil
	}
	device, err := dataDisk(ctx)
	if err != nil {
		return err
	}
	err = exec.CommandContext(ctx, "blkid", "-p", device).Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == 2 {
		// 2 says that nothing at all is on the disk.
		err = run(ctx, "mkfs.ext4", "-q", "-L", "skerry-data", device)
	}
	if err != nil {
		return fmt.Errorf("look at the data disk %s: %w", device, err)
	}
	table, err := os.ReadFile("/etc/fstab")
	if err != nil {
		return err
	}
	if !strings.Contains(string(table), dataDevice) {
		if err := os.WriteFile("/etc/fstab", []byte(strings.TrimRight(string(table), "\n")+"\n"+dataMount+"\n"), 0o644); err != nil {
			return err
		}
	}
	// The line in the table is for the boots to come: systemd has not read it,
	// and reading everything again takes it seconds.
	if err := run(ctx, "mount", "-t", "ext4", "-o", "noatime", device, Data); err != nil {
		return err
	}
	if err := os.Chmod(Data, 0o700); err != nil {
		return err
	}
	return run(ctx, "resize2fs", device)
}

// dataDisk finds the data disk. The kernel tells the serial number of a virtio
// disk from the start on; the name by which other disks are found is udev's,
// which may be starting beside this.
func dataDisk(ctx context.Context) (string, error) {
	serials, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return "", err
	}
	for _, path := range serials {
		if serial, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(serial)) == resources.DataSerial {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(path))), nil
		}
	}
	return dataDevice, run(ctx, "udevadm", "wait", "--timeout=60", dataDevice)
}

// identify keeps who the node is. A data disk belongs to one node for ever; its
// name, labels and keys are those of the seed, which is newer.
func identify(seed resources.NodeSeed) error {
	node := resources.NodeFile{ID: seed.ID, Name: seed.Name, Labels: seed.Labels, Taints: seed.Taints, AuthorizedKeys: seed.AuthorizedKeys}
	there, err := agent.InitNode(Data, node)
	if err != nil {
		return err
	}
	if there.ID != seed.ID {
		return fmt.Errorf("the data disk belongs to node %s (%s), and this is node %s (%s)", there.Name, there.ID, seed.Name, seed.ID)
	}
	return agent.PutNode(Data, node)
}

// takeHostKey puts the key of the seed, or of the data disk, in sshd's place.
func takeHostKey(seed resources.NodeSeed) error {
	kept := filepath.Join(Data, "host_key")
	private := []byte(seed.HostKey)
	if len(private) == 0 {
		var err error
		if private, err = os.ReadFile(kept); err != nil {
			return fmt.Errorf("the seed has no host key, and the data disk has none either: %w", err)
		}
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return errors.New("the host key is not a private key")
	}
	for path, content := range map[string][]byte{
		kept: private, hostKey: private, hostKey + ".pub": ssh.MarshalAuthorizedKey(signer.PublicKey()),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// takeLoginKeys puts the keys that may log in in place before sshd is up. The
// agent does so too, and is up later: who waits for the node would be refused
// until then, again and again, each login taking the agent's time to start.
func takeLoginKeys(path string, keys []string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.Join(keys, "\n")+"\n"), 0o600)
}

// cloudInit is true where cloud-init configures the network.
func cloudInit() bool {
	_, err := os.Stat("/run/cloud-init")
	return err == nil
}

func takeName(name string) error {
	if err := syscall.Sethostname([]byte(name)); err != nil {
		return err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	line := "127.0.1.1 " + name
	if strings.Contains(string(hosts), line+"\n") {
		return nil
	}
	return os.WriteFile("/etc/hosts", []byte(line+"\n"+string(hosts)), 0o644)
}

// configure writes the node's configuration, and enables what runs from now on.
// It returns whether there is something in it that systemd doesn't know yet: a
// node image has all of it.
func configure(seed resources.NodeSeed) (news bool, err error) {
	all, err := files(seed, cloudInit())
	if err != nil {
		return false, err
	}
	for _, f := range all {
		written, err := writeFile(f)
		if err != nil {
			return false, err
		}
		news = news || written && filepath.Dir(f.path) == units
	}
	for unit, target := range map[string]string{filepath.Join(units, agentUnit): "multi-user.target", podmanUnit: "sockets.target"} {
		made, err := enable(unit, target)
		if err != nil {
			return false, err
		}
		news = news || made
	}
	return news, nil
}

// takeAddresses makes networkd read what was written for it, where it may have
// begun without. cloud-init gives a node its addresses itself.
func takeAddresses(ctx context.Context, seed resources.NodeSeed) error {
	if len(seed.Cards) == 0 || cloudInit() {
		return nil
	}
	return run(ctx, "systemctl", "--no-block", "try-restart", "systemd-networkd.service")
}

// startAgent starts the agent, and all that waits for this node's identity, and
// doesn't wait itself: systemd may be running this as a step of its own boot.
// Where systemd has the agent in that boot already it is told no more than that
// this step is done, since a reload takes seconds where the processor is
// emulated.
func startAgent(ctx context.Context, news bool) error {
	if !news {
		_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
		return err
	}
	if err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	// In the node image sshd waits for this; beside cloud-init it may run already,
	// with another key. Debian and Ubuntu call it ssh, Fedora sshd.
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		if !cloudInit() {
			break
		}
		if run(ctx, "systemctl", "--quiet", "is-active", unit) == nil {
			if err := run(ctx, "systemctl", "--no-block", "restart", unit); err != nil {
				return err
			}
		}
	}
	if err := run(ctx, "systemctl", "--no-block", "start", "podman.socket", agentUnit); err != nil {
		return err
	}
	_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
	return err
}

// enable is systemctl enable without systemctl, which takes a second or more on
// a machine that is emulated.
func enable(unit, target string) (made bool, err error) {
	link := filepath.Join(units, target+".wants", filepath.Base(unit))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return false, err
	}
	err = os.Symlink(unit, link)
	if os.IsExist(err) {
		return false, nil
	}
	return err == nil, err
}

// writeFile returns false where the file is as it should be already.
func writeFile(f file) (written bool, err error) {
	if there, err := os.ReadFile(f.path); err == nil && string(there) == f.content {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return false, err
	}
	return true, os.WriteFile(f.path, []byte(f.content), 0o644)
}

// link makes the program one of the seed disk. It is 40 MB large, and the agent
// need not wait until they are copied. A power loss before they are makes the
// next boot a first boot again; but cloud-init has no second one, so there the
// copy comes first.
func link(from, to string, copyNow bool) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Symlink(from, to); err != nil || !copyNow {
		return err
	}
	return install(to)
}

// installWhenBooted puts a copy of the program in the place of its link, unless
// it is one already. Whatever the node waits for is more urgent: the rest of the
// boot, and all that runs after it.
func installWhenBooted(ctx context.Context, to string) error {
	if info, err := os.Lstat(to); err != nil || info.Mode().IsRegular() {
		return err
	}
	// A unit that failed makes it an error, and is no reason not to go on.
	if err := run(ctx, "systemctl", "is-system-running", "--wait"); err != nil && ctx.Err() != nil {
		return err
	}
	// This is of the thread, which ends with the process.
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return err
	}
	return install(to)
}

// install puts a copy of the program in the place of its link.
func install(to string) error {
	source, err := os.Open(to)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // it was read
	copied, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, source)
	if err == nil {
		err = copied.Sync()
	}
	if closeErr := copied.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
