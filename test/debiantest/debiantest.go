// Package debiantest gives a test Debian machines that were there before skerry,
// to put it on: each has an sshd, a real Podman, and directories of its own where
// skerry writes. It needs root, and what podmantest needs.
package debiantest

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/test/podmantest"
	"github.com/skerry-io/skerry/test/sshtest"
)

// Machine is a Debian machine: namespaces with directories of their own in the
// places that skerry writes to, a real Podman, and an sshd. There is no systemd;
// fakeSystemctl, which keeps what it was told, starts and stops the program.
type Machine struct {
	// SSH is its sshd, and Podman its Podman.
	SSH    *sshtest.Server
	Podman *podmantest.Service
	// Address by which other machines reach it.
	Address string
	// User whom the endpoint names, or empty for root. Others than root can't open
	// root's sockets, and have sudo.
	User string

	dir string
}

// places of the machine that are its own, by their directory in dir.
var places = map[string]string{
	"bin": "/usr/local/bin", "units": "/etc/systemd/system", "containers": "/etc/containers", "lib": "/var/lib", "run": "/run", "root": "/root",
}

// fakes are the programs that a test machine may lack, or has in another way. Its
// nft does not work: the machine's Podman is outside of its mount namespace, and
// would not find the network namespaces of replicas.
var fakes = map[string]string{
	"systemctl": fakeSystemctl,
	"stat":      "echo cgroup2fs",
	"podman":    "echo podman version 4.3.1",
	"crun":      "true", "netavark": "true", "aardvark-dns": "true", "nft": "false", "iptables": "true",
	"sudo":       `shift; exec "$@"`,
	"journalctl": `tail -n 15 "$STATE"/*.log`,
}

const fakeSystemctl = `
echo "$*" >>"$STATE/systemctl"
now= verb= units=
for a; do
	case $a in
	--now) now=1 ;;
	-*) ;;
	*) if [ -z "$verb" ]; then verb=$a; else units="$units $a"; fi ;;
	esac
done
running() { [ -e "$STATE/$1.pid" ] && kill -0 "$(cat "$STATE/$1.pid")" 2>/dev/null; }
stop() {
	if running $1; then
		kill "$(cat "$STATE/$1.pid")"
		while running $1; do sleep 0.05; done
	fi
	rm -f "$STATE/$1.pid"
}
start() {
	case $1 in skerry-*) ;; *) return ;; esac
	if running $1; then return; fi
	[ -e /etc/systemd/system/$1 ] || { echo "no unit $1" >&2; exit 5; }
	name=${1%.service}
	mkdir -p -m 700 /run/skerry
	setsid /usr/local/bin/skerry ${name#skerry-} >>"$STATE/$1.log" 2>&1 </dev/null &
	echo $! >"$STATE/$1.pid"
	if [ $1 = skerry-server.service ]; then
		until [ -S /run/skerry/server.sock ]; do
			running $1 || exit 1
			sleep 0.05
		done
	fi
}
for u in $units; do
	case $verb in
	start) start $u ;;
	restart) stop $u; rm -f "/run/skerry/$(echo ${u%.service} | sed s/skerry-//).sock"; start $u ;;
	enable) touch "$STATE/$u.enabled"; [ -z "$now" ] || start $u ;;
	disable) rm -f "$STATE/$u.enabled" /etc/systemd/system/*.wants/$u; [ -z "$now" ] || stop $u ;;
	is-enabled) [ -e "$STATE/$u.enabled" ] || exit 1 ;;
	esac
done
`

// Start starts machines that reach each other.
func Start(t testing.TB, n int) []*Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Podman and root; left out by -short")
	}
	// The compiler's files are in the HOME that the login replaces.
	for _, name := range []string{"GOCACHE", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(name, strings.TrimSpace(string(out)))
	}
	login := sshtest.Login(t)
	bridge := filepath.Base(shortDirectory(t))
	ip(t, "netns", "add", bridge)
	t.Cleanup(func() { ip(t, "netns", "delete", bridge) })
	ip(t, "-n", bridge, "link", "add", "bridge", "type", "bridge")
	ip(t, "-n", bridge, "link", "set", "bridge", "up")
	all := make([]*Machine, n)
	for i := range all {
		d := &Machine{dir: shortDirectory(t), Podman: podmantest.StartService(t), Address: fmt.Sprintf("10.77.0.%d", i+1)}
		port := fmt.Sprintf("port%d", i)
		ip(t, "-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", d.Podman.Namespace)
		ip(t, "-n", bridge, "link", "set", port, "master", "bridge", "up")
		ip(t, "-n", d.Podman.Namespace, "addr", "add", d.Address+"/24", "dev", "eth0")
		ip(t, "-n", d.Podman.Namespace, "link", "set", "eth0", "up")
		d.start(t, login)
		all[i] = d
	}
	return all
}

func (d *Machine) start(t testing.TB, login ssh.PublicKey) {
	t.Helper()
	var mounts strings.Builder
	for name, place := range places {
		d.Write(t, filepath.Join(name, ".here"), "", 0o600)
		fmt.Fprintf(&mounts, "mount --bind %s %s\n", filepath.Join(d.dir, name), place)
	}
	for name, text := range fakes {
		d.Write(t, filepath.Join("fakes", name), "#!/bin/sh\n"+text+"\n", 0o755)
	}
	d.Write(t, "state/systemctl", "", 0o600)
	d.Write(t, "run/systemd/system/.here", "", 0o600)
	d.Write(t, "root/.ssh/authorized_keys", "the owner's\n", 0o600)
	d.Write(t, "run/podman/.here", "", 0o600)
	if err := os.Symlink(strings.TrimPrefix(d.Podman.Socket, "unix://"), filepath.Join(d.dir, "run/podman/podman.sock")); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("nsenter", "--net=/run/netns/"+d.Podman.Namespace, "unshare", "-m", "sh", "-euc", mounts.String()+"echo; exec cat")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	holder.Stderr = os.Stderr
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("make the machine: %v", err)
	}
	pid := strconv.Itoa(holder.Process.Pid)
	path := filepath.Join(d.dir, "fakes") + ":" + os.Getenv("PATH")
	d.SSH = sshtest.Start(t, login, sshtest.Options{
		Command: func(line string) *exec.Cmd {
			c := exec.Command("nsenter", "-t", pid, "-m", "-n", "sh", "-c", line)
			c.Env = []string{"PATH=" + path, "STATE=" + filepath.Join(d.dir, "state"), "HOME=/root"}
			return c
		},
		Socket: func(path string) (string, error) {
			if d.User != "" {
				return "", os.ErrPermission
			}
			return filepath.Join(d.dir, path), nil
		},
	})
	t.Cleanup(func() {
		for _, unit := range []string{"skerry-server.service", "skerry-agent.service"} {
			if log, err := os.ReadFile(filepath.Join(d.dir, "state", unit+".log")); err == nil && t.Failed() {
				t.Logf("%s on %s:\n%s", unit, d.Address, log)
			}
			d.Kill(unit)
		}
		in.Close()    //nolint:errcheck // it ends the machine
		holder.Wait() //nolint:errcheck // it was ended
	})
}

// Kill kills what runs as a unit, if it runs.
func (d *Machine) Kill(unit string) {
	text, err := os.ReadFile(filepath.Join(d.dir, "state", unit+".pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill() //nolint:errcheck // it may have ended
	}
}

// Endpoint is what its user writes.
func (d *Machine) Endpoint() string {
	user := ""
	if d.User != "" {
		user = d.User + "@"
	}
	return fmt.Sprintf("ssh://%s%s:%s?hostkey=%s", user, d.SSH.Host, d.SSH.Port, url.QueryEscape(d.SSH.Fingerprint))
}

// Dir is where its places are here: bin is its /usr/local/bin, lib its /var/lib,
// run, root, units and containers; state has what its systemctl was told.
func (d *Machine) Dir() string { return d.dir }

// Write writes a file of the machine, below Dir.
func (d *Machine) Write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// Read reads a file of the machine, below Dir.
func (d *Machine) Read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Left lists the files of skerry's that the machine has.
func (d *Machine) Left(t testing.TB) []string {
	t.Helper()
	var left []string
	for name := range places {
		err := filepath.WalkDir(filepath.Join(d.dir, name), func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.Contains(strings.TrimPrefix(path, d.dir), "skerry") {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return left
}

// shortDirectory is for unix sockets, whose paths are short, and for names of
// network namespaces.
func shortDirectory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "deb") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	return dir
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
