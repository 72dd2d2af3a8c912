package provider

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
	"github.com/skerry-io/skerry/test/sshtest"
)

// debian is a machine for tests: namespaces with directories of their own in the
// places that skerry writes to, a real Podman, and an sshd. There is no systemd;
// fakeSystemctl, which keeps what it was told, starts and stops the program.
type debian struct {
	ssh    *sshtest.Server
	dir    string
	podman *podmantest.Service
	// address by which other machines reach it.
	address string
}

// places of the machine that are its own, by their directory in dir.
var debianPlaces = map[string]string{
	"bin": "/usr/local/bin", "units": "/etc/systemd/system", "containers": "/etc/containers", "lib": "/var/lib", "run": "/run", "root": "/root",
}

// fakes are the programs that a test machine may lack, or has in another way.
var fakes = map[string]string{
	"systemctl": fakeSystemctl,
	"stat":      "echo cgroup2fs",
	"podman":    "echo podman version 4.3.1",
	"crun":      "true", "netavark": "true", "aardvark-dns": "true", "nft": "true", "iptables": "true",
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

// newDebians starts machines that reach each other.
func newDebians(t *testing.T, n int) []*debian {
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
	all := make([]*debian, n)
	for i := range all {
		d := &debian{dir: shortDirectory(t), podman: podmantest.StartService(t), address: fmt.Sprintf("10.77.0.%d", i+1)}
		port := fmt.Sprintf("port%d", i)
		ip(t, "-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", d.podman.Namespace)
		ip(t, "-n", bridge, "link", "set", port, "master", "bridge", "up")
		ip(t, "-n", d.podman.Namespace, "addr", "add", d.address+"/24", "dev", "eth0")
		ip(t, "-n", d.podman.Namespace, "link", "set", "eth0", "up")
		d.start(t, login)
		all[i] = d
	}
	return all
}

func (d *debian) start(t *testing.T, login ssh.PublicKey) {
	t.Helper()
	mounts := ""
	for name, place := range debianPlaces {
		d.write(t, filepath.Join(name, ".here"), "", 0o600)
		mounts += fmt.Sprintf("mount --bind %s %s\n", filepath.Join(d.dir, name), place)
	}
	for name, text := range fakes {
		d.write(t, filepath.Join("fakes", name), "#!/bin/sh\n"+text+"\n", 0o755)
	}
	d.write(t, "state/systemctl", "", 0o600)
	d.write(t, "run/systemd/system/.here", "", 0o600)
	d.write(t, "root/.ssh/authorized_keys", "the owner's\n", 0o600)
	d.write(t, "run/podman/.here", "", 0o600)
	if err := os.Symlink(strings.TrimPrefix(d.podman.Socket, "unix://"), filepath.Join(d.dir, "run/podman/podman.sock")); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("nsenter", "--net=/run/netns/"+d.podman.Namespace, "unshare", "-m", "sh", "-euc", mounts+"echo; exec cat")
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
	d.ssh = sshtest.Start(t, login, sshtest.Options{
		Command: func(line string) *exec.Cmd {
			c := exec.Command("nsenter", "-t", pid, "-m", "-n", "sh", "-c", line)
			c.Env = []string{"PATH=" + path, "STATE=" + filepath.Join(d.dir, "state"), "HOME=/root"}
			return c
		},
		Socket: func(path string) (string, error) { return filepath.Join(d.dir, path), nil },
	})
	t.Cleanup(func() {
		for _, unit := range []string{"skerry-server.service", "skerry-agent.service"} {
			if log, err := os.ReadFile(filepath.Join(d.dir, "state", unit+".log")); err == nil && t.Failed() {
				t.Logf("%s on %s:\n%s", unit, d.address, log)
			}
			d.kill(unit)
		}
		in.Close()    //nolint:errcheck // it ends the machine
		holder.Wait() //nolint:errcheck // it was ended
	})
}

// kill kills what runs as a unit, if it runs.
func (d *debian) kill(unit string) {
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

// endpoint is what its user writes.
func (d *debian) endpoint() string {
	return fmt.Sprintf("ssh://%s:%s?hostkey=%s", d.ssh.Host, d.ssh.Port, url.QueryEscape(d.ssh.Fingerprint))
}

func (d *debian) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (d *debian) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// left lists the files of skerry's that the machine has.
func (d *debian) left(t *testing.T) []string {
	t.Helper()
	var left []string
	for name := range debianPlaces {
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
func shortDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "deb") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	return dir
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// built are the programs that tests have built, by version.
var built = struct {
	sync.Mutex // guards programs
	programs   map[string][]byte
}{programs: map[string][]byte{}}

// program builds skerry as a version.
func program(t *testing.T, version string) []byte {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if there := built.programs[version]; there != nil {
		return there
	}
	path := filepath.Join(t.TempDir(), "skerry")
	build := exec.Command("go", "build", "-ldflags", "-s -w -X main.version="+version, "-o", path, "../cmd/skerry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	built.programs[version] = text
	return text
}

// plugin is the connections of a plugin of a version.
func plugin(t *testing.T, version string) *Connections {
	t.Helper()
	text := program(t, version)
	c, err := connect(slog.New(slog.NewTextHandler(testLog{t}, nil)), version)(t.Context(), &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	c.program = func(string) ([]byte, error) { return text, nil }
	t.Cleanup(c.machines.Close)
	return c
}

type testLog struct{ testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.Logf("%s", strings.TrimSpace(string(line)))
	return len(line), nil
}

// control is the control plane of a cluster.
func (c *Connections) control(t *testing.T, spec *Cluster) *client.Server {
	t.Helper()
	endpoints, err := resources.ParseEndpoints(spec.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return c.machines.Server(endpoints...)
}

// The whole life of machines that were there before skerry: what one lacks is
// named, they join, are repaired, and are left as they were.
func TestMachinesThatWereThere(t *testing.T) {
	machines := newDebians(t, 2)
	server, worker := machines[0], machines[1]
	c := plugin(t, "0.1.0")
	spec := &Cluster{Cluster: resources.Cluster{Name: "home", Servers: []string{server.endpoint()}, Workers: []string{worker.endpoint()}}}

	for _, d := range machines {
		d.write(t, "fakes/stat", "#!/bin/sh\necho tmpfs\n", 0o755)
		os.Remove(filepath.Join(d.dir, "run/systemd/system/.here")) //nolint:errcheck // the next says so
		if err := os.Remove(filepath.Join(d.dir, "run/systemd/system")); err != nil {
			t.Fatal(err)
		}
	}
	err := createCluster(t.Context(), c, spec)
	for _, words := range []string{"servers[0]: 127.0.0.1 can't become a node: systemd does not run", "workers[0]: 127.0.0.1 can't become a node: /sys/fs/cgroup is tmpfs"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("the error lacks %q: %v", words, err)
		}
	}
	for _, d := range machines {
		if left := d.left(t); len(left) > 0 {
			t.Errorf("a machine that can't be a node has %q", left)
		}
		d.write(t, "fakes/stat", "#!/bin/sh\necho cgroup2fs\n", 0o755)
		d.write(t, "run/systemd/system/.here", "", 0o600)
	}

	if err := createCluster(t.Context(), c, spec); err != nil {
		t.Fatal(err)
	}
	nodes, err := c.control(t, spec).Nodes(t.Context())
	if err != nil || len(nodes) != 2 || !nodes[0].Ready || !nodes[1].Ready || len(spec.Nodes) != 2 {
		t.Fatalf("%+v, %q, %v", nodes, spec.Nodes, err)
	}
	if e, err := resources.ParseEndpoint(spec.Endpoint); err != nil || string(e.Node) != spec.Nodes[0] || e.HostKey != server.ssh.Fingerprint {
		t.Errorf("the endpoint %s needs something beside it: %v", spec.Endpoint, err)
	}
	for _, d := range machines {
		if got := d.read(t, "root/.ssh/authorized_keys"); got != "the owner's\n" {
			t.Errorf("who may log in has become %q", got)
		}
		if _, err := os.Stat(filepath.Join(d.dir, "state/systemctl")); err != nil {
			t.Error(err)
		}
	}

	// Whatever was cut off is made up for, and the node stays the same one.
	worker.kill("skerry-agent.service")
	for _, name := range []string{"units/skerry-agent.service", "bin/skerry", "run/skerry/agent.sock"} {
		if err := os.Remove(filepath.Join(worker.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	prior, again := *spec, *spec
	if err := updateCluster(t.Context(), c, &prior, &again); err != nil {
		t.Fatal(err)
	}
	if again.Nodes[1] != spec.Nodes[1] || again.Endpoint != spec.Endpoint {
		t.Errorf("the nodes were %q, and are %q", spec.Nodes, again.Nodes)
	}

	// One that leaves is left as it was; that it is cut off changes nothing.
	alone := again
	alone.Workers, alone.Nodes = nil, nil
	for range 2 {
		if err := updateCluster(t.Context(), c, &again, &alone); err != nil {
			t.Fatal(err)
		}
		if left := worker.left(t); len(left) > 0 {
			t.Errorf("the worker has %q", left)
		}
	}
	if nodes, err := c.control(t, spec).Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Errorf("%+v, %v", nodes, err)
	}
	for range 2 {
		if warnings, err := deleteCluster(t.Context(), c, &alone); err != nil || len(warnings) > 0 {
			t.Fatalf("%q, %v", warnings, err)
		}
	}
	if left := server.left(t); len(left) > 0 {
		t.Errorf("the server has %q", left)
	}
}
