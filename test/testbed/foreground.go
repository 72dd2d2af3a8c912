package testbed

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/skerry-io/skerry/test/podmantest"
)

// foreground runs `skerry dev`: all units in one process, or as its children.
type foreground struct {
	host    *Host
	args    []string
	process *exec.Cmd
	file    string
}

// boot starts it, and waits until it says its endpoint: its agent answers by then.
func (f *foreground) boot(t testing.TB) {
	t.Helper()
	h := f.host
	f.process = exec.Command("nsenter", append([]string{
		"--net=/run/netns/" + h.Podman.Namespace, h.program, "dev", "--dir", h.Dir, "--podman", h.Podman.Socket,
		"--registries-conf", h.registriesConf(),
	}, f.args...)...)
	out, err := f.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	logs, err := os.OpenFile(f.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close() //nolint:errcheck // the process has its own
	f.process.Stderr = logs
	if err := f.process.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("skerry dev ended before it said its endpoint: %v", err)
	}
	h.Endpoint = strings.TrimSpace(line)
}

func (f *foreground) await(testing.TB) {}

// end ends them all: none outlives the process.
func (f *foreground) end(t testing.TB, s syscall.Signal, units ...Unit) {
	t.Helper()
	if f.process == nil || !slices.Contains(units, Agent) {
		return
	}
	children := f.children()
	f.process.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it may have ended; what is stalled would not
	f.process.Process.Signal(s)               //nolint:errcheck // it may have ended
	f.process.Wait()                          //nolint:errcheck // it was ended
	f.process = nil
	// Its own processes end with it, which takes them a moment.
	for _, child := range children {
		podmantest.Ended(child, startPatience)
	}
}

// children gives the processes that skerry on the host has started.
func (f *foreground) children() []int {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var found []int
	for _, process := range processes {
		line, err := os.ReadFile(filepath.Join(process, "cmdline"))
		pid, notOne := strconv.Atoi(filepath.Base(process))
		if err == nil && notOne == nil && strings.Contains(string(line), filepath.Join(f.host.Dir, "run", "network")) {
			found = append(found, pid)
		}
	}
	return found
}

// signal reaches all at once, by way of the agent.
func (f *foreground) signal(t testing.TB, unit Unit, s syscall.Signal) {
	t.Helper()
	if f.process == nil || unit != Agent {
		return
	}
	if err := f.process.Process.Signal(s); err != nil {
		t.Fatalf("signal skerry dev on %s: %v", f.host.Podman.Namespace, err)
	}
}

func (f *foreground) pid(Unit) int { return f.process.Process.Pid }

func (f *foreground) logs() string { return f.file }
