package rules

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace that a test made, by its name.
type namespace string

// newNamespace makes a network namespace that is gone after the test, and with it
// all that was in it.
func newNamespace(t testing.TB, name string) namespace {
	t.Helper()
	if testing.Short() {
		t.Skip("makes network namespaces")
	}
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	n := namespace(fmt.Sprintf("skerry-%d-%s", os.Getpid(), name))
	command(t, "ip", "netns", "add", string(n))
	t.Cleanup(func() { command(t, "ip", "netns", "delete", string(n)) })
	n.ip(t, "link set lo up")
	return n
}

// ip runs lines of ip's words within the namespace.
func (n namespace) ip(t testing.TB, lines ...string) {
	t.Helper()
	cmd := exec.Command("ip", "-n", string(n), "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip in %s: %v\n%s\nof:\n%s", n, err, out, strings.Join(lines, "\n"))
	}
}

// set writes sysctls, as "net/ipv4/ip_forward=1", of the namespace; those that the
// kernel doesn't have are left.
func (n namespace) set(t testing.TB, sysctls ...string) {
	t.Helper()
	n.do(t, func() error {
		for _, s := range sysctls {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
}

// do calls f within the namespace; see in.
func (n namespace) do(t testing.TB, f func() error) {
	t.Helper()
	if err := n.in(f); err != nil {
		t.Fatalf("in %s: %v", n, err)
	}
}

// in calls f on a thread that is in the namespace. The sockets that f makes, and
// the programs that it starts, stay there.
func (n namespace) in(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		result <- func() error {
			file, err := os.Open("/run/netns/" + string(n))
			if err != nil {
				return err
			}
			defer file.Close() //nolint:errcheck // was read only
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-result
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
