package testbed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/podmantest"
)

// Unit is a process of skerry's on a host.
type Unit string

// The units of a host. The server runs where the host is one of its cluster's;
// the last two are started by the agent, and outlive it.
const (
	Agent  Unit = "agent"
	Server Unit = "server"
	DNS    Unit = "dns"
	Tunnel Unit = "tunnel"
)

// all are the units in the order in which they are ended; control are those that
// End and Stall are about.
var (
	all     = []Unit{Server, Agent, DNS, Tunnel}
	control = all[:2]
)

// startPatience bounds how long a host waits for its units.
const startPatience = time.Minute

// units runs skerry as a node does: each part is a process of its own, which is
// started again a second after it ends by itself.
type units struct {
	host *Host
	dir  string
}

// fakeSystemctl is all that the agent asks of systemd.
const fakeSystemctl = `#!/bin/sh
now= verb= unit= wait=1
for a; do
	case $a in
	--now) now=1 ;;
	--no-block) wait= ;;
	-*) ;;
	*) if [ -z "$verb" ]; then verb=$a; else unit=$a; fi ;;
	esac
done
name=${unit#skerry-} name=${name%.service}
cd "$UNITS"
runs() { [ -e $name.keeper ] && kill -0 $(cat $name.keeper) 2>/dev/null; }
start() {
	if runs; then return; fi
	rm -f $name.stopped
	[ $name != server ] || rm -f "$RUN/server.sock"
	setsid ./keep $name >>skerry.log 2>&1 </dev/null &
	echo $! >$name.keeper
	while [ "$wait$name" = 1server ] && ! [ -S "$RUN/server.sock" ]; do
		runs || exit 1
		sleep 0.05
	done
}
stop() {
	touch $name.stopped
	kill $(cat $name.pid) 2>/dev/null
	while runs; do sleep 0.05; done
	rm -f $name.keeper $name.pid
}
case $verb in
start) start ;;
stop) stop ;;
enable) touch $name.enabled; [ -z "$now" ] || start ;;
disable) rm -f $name.enabled; [ -z "$now" ] || stop ;;
esac
`

// keep runs a unit again and again, until it is stopped or the test is gone.
const keep = `#!/bin/sh
until [ -e $1.stopped ] || ! kill -0 $TEST; do
	sh ./$1.command &
	echo $! >$1.pid
	wait $!
	[ -e $1.stopped ] || sleep 1
done
`

func newUnits(t testing.TB, h *Host, name string) *units {
	t.Helper()
	u := &units{host: h, dir: filepath.Join(h.Dir, "units")}
	var id [8]byte
	rand.Read(id[:])
	node, err := agent.InitNode(filepath.Join(h.Dir, "data"), resources.NodeFile{ID: resources.NodeID(hex.EncodeToString(id[:])), Name: name})
	if err != nil {
		t.Fatal(err)
	}
	h.Endpoint = resources.Endpoint{Socket: filepath.Join(h.Dir, "run", "agent.sock"), Node: node.ID}.String()
	data, run, network := filepath.Join(h.Dir, "data"), filepath.Join(h.Dir, "run"), filepath.Join(h.Dir, "run", "network")
	for path, text := range map[string]string{
		"systemctl": fakeSystemctl, "keep": keep, "journalctl": "#!/bin/sh\ntail -n 5 \"$UNITS/skerry.log\"\n",
		"agent.command": fmt.Sprintf("exec %s agent --data %s --run %s --podman %s --authorized-keys %s --registries-conf %s\n",
			h.program, data, run, h.Podman.Socket, filepath.Join(h.Dir, "authorized_keys"), h.registriesConf()),
		"server.command": fmt.Sprintf("exec %s server --data %s --run %s\n", h.program, data, run),
		"dns.command":    fmt.Sprintf("exec %s dns --dir %s\n", h.program, network),
		"tunnel.command": fmt.Sprintf("exec %s tunnel --dir %s\n", h.program, network),
	} {
		path = filepath.Join(u.dir, path)
		if err := os.MkdirAll(u.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// systemctl runs it as somebody on the host does.
func (u *units) systemctl(args ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{"--net=/run/netns/" + u.host.Podman.Namespace, filepath.Join(u.dir, "systemctl")}, args...)...)
	c.Env = append(os.Environ(), "PATH="+u.dir+":"+os.Getenv("PATH"), "UNITS="+u.dir,
		"RUN="+filepath.Join(u.host.Dir, "run"), "TEST="+strconv.Itoa(os.Getpid()))
	return c
}

// boot begins to start what is enabled, and returns at once.
func (u *units) boot(t testing.TB) {
	t.Helper()
	for _, unit := range control {
		if unit == Server && !u.isServer() {
			continue
		}
		if out, err := u.systemctl("start", "--no-block", string(unit)).CombinedOutput(); err != nil {
			t.Fatalf("start skerry %s on %s: %v: %s", unit, u.host.Podman.Namespace, err, out)
		}
	}
}

func (u *units) isServer() bool {
	_, err := os.Stat(u.file(Server, "enabled"))
	return err == nil
}

// await returns once the agent answers, and the server where there is one.
func (u *units) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	endpoint, err := resources.ParseEndpoint(u.host.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	dialer := client.NewDialer(client.Options{})
	defer dialer.Close()
	if _, err := dialer.Agent(endpoint).Await(ctx); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for u.isServer() {
		connected, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(u.host.Dir, "run", "server.sock"))
		if err == nil {
			connected.Close() //nolint:errcheck // nothing was said
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("skerry server on %s does not answer within %s: %v", u.host.Podman.Namespace, startPatience, err)
		case <-look.C:
		}
	}
}

// file is one that says something of a unit.
func (u *units) file(unit Unit, what string) string {
	return filepath.Join(u.dir, string(unit)+"."+what)
}

// pid of a unit; 0 where it does not run.
func (u *units) pid(unit Unit) int { return readPID(u.file(unit, "pid")) }

func readPID(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// end ends units with a signal. They stay ended until the host boots.
func (u *units) end(t testing.TB, signal syscall.Signal, ended ...Unit) {
	t.Helper()
	for _, unit := range ended {
		if err := os.WriteFile(u.file(unit, "stopped"), nil, 0o600); err != nil {
			t.Error(err)
		}
		u.signal(t, unit, signal)
		u.signal(t, unit, syscall.SIGCONT) // what is stalled would not end
	}
	for _, unit := range ended {
		keeper := readPID(u.file(unit, "keeper"))
		if keeper == 0 {
			continue
		}
		signalled := u.pid(unit)
		for deadline := time.Now().Add(startPatience); !podmantest.Ended(keeper, 100*time.Millisecond); {
			if time.Now().After(deadline) {
				t.Errorf("skerry %s on %s does not end within %s", unit, u.host.Podman.Namespace, startPatience)
				break
			}
			// It may have been about to start.
			if pid := u.pid(unit); pid != signalled {
				signalled = pid
				u.signal(t, unit, signal)
			}
		}
		os.Remove(u.file(unit, "keeper")) //nolint:errcheck // it may not be there
		os.Remove(u.file(unit, "pid"))    //nolint:errcheck // it may not be there
	}
}

func (u *units) signal(t testing.TB, unit Unit, s syscall.Signal) {
	t.Helper()
	pid := u.pid(unit)
	if pid == 0 {
		return
	}
	if err := unix.Kill(pid, s); err != nil && err != unix.ESRCH {
		t.Fatalf("signal skerry %s on %s: %v", unit, u.host.Podman.Namespace, err)
	}
}

// logs is one file for all of them.
func (u *units) logs() string { return filepath.Join(u.dir, "skerry.log") }
