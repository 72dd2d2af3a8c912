package podmantest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// PowerOff ends the service and all of its containers at once, as a power cut
// does: nobody is asked, and what Podman keeps in memory only is lost.
func (s *Service) PowerOff(t testing.TB) {
	t.Helper()
	s.Down(t)
	// What the cut ends it ends at once; so whoever watches others goes first.
	conmons, watched := s.Conmons(t), s.Programs(t)
	networks, groups := networksOf(t, watched), groupsOf(watched)
	for _, pid := range append(conmons, watched...) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			t.Fatalf("end process %d: %v", pid, err)
		}
	}
	deadline := time.Now().Add(startTimeout)
	for _, pid := range append(conmons, watched...) {
		if !Ended(pid, time.Until(deadline)) {
			t.Fatalf("process %d does not end", pid)
		}
	}
	s.unmount(context.Background(), t)
	s.removeGroups()
	for _, name := range []string{"run", "tmp"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append(networks, s.Namespace) {
		ip(t, "netns", "delete", name)
	}
	for _, dir := range groups {
		// What runc knows of the container is in memory, too.
		_, id, _ := strings.Cut(filepath.Base(dir), "libpod-")
		if err := errors.Join(os.RemoveAll("/run/runc/"+id), os.RemoveAll(dir)); err != nil {
			t.Errorf("remove what Podman has left: %v", err)
		}
	}
}

// PowerOn starts the service again, in a network namespace that knows nothing
// of what was in it.
func (s *Service) PowerOn(t testing.TB) {
	t.Helper()
	ip(t, "netns", "add", s.Namespace)
	ip(t, "-n", s.Namespace, "link", "set", "lo", "up")
	s.Up(t)
}

// Conmons gives the processes of the monitors of the service's containers.
func (s *Service) Conmons(t testing.TB) []int {
	t.Helper()
	return s.processes(t, "conmon")
}

// processes gives those of a program that are about the service's directory.
func (s *Service) processes(t testing.TB, name string) []int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, path := range lines {
		line, err := os.ReadFile(path)
		program, _, _ := bytes.Cut(line, []byte{0})
		if err != nil || filepath.Base(string(program)) != name || !bytes.Contains(line, []byte(s.dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	return all
}

// Programs gives the first processes of the service's containers.
func (s *Service) Programs(t testing.TB) []int {
	t.Helper()
	var all []int
	for _, conmon := range s.Conmons(t) {
		all = append(all, children(conmon)...)
	}
	return all
}

// networksOf gives the names of the network namespaces of processes. Podman names
// those of its containers, and takes the names away when they end well.
func networksOf(t testing.TB, pids []int) []string {
	t.Helper()
	named, err := filepath.Glob("/run/netns/netns-*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pid := range pids {
		own, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			continue // it has ended
		}
		for _, path := range named {
			if other, err := os.Stat(path); err == nil && os.SameFile(own, other) {
				all = append(all, filepath.Base(path))
			}
		}
	}
	return all
}

// groupsOf gives the directories of the cgroups of processes, in all hierarchies.
func groupsOf(pids []int) []string {
	var all []string
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			// As in "4:memory:/libpod_parent/libpod-ID", or "0::/..." of the unified one.
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			controllers, path, _ := strings.Cut(rest, ":")
			if !strings.Contains(path, "/libpod-") {
				continue
			}
			for _, hierarchy := range []string{controllers, strings.TrimPrefix(controllers, "name="), "unified", ""} {
				dir := filepath.Join("/sys/fs/cgroup", hierarchy, path)
				if _, err := os.Stat(dir); err == nil {
					all = append(all, dir)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// removeGroups removes the empty cgroups of containers that are gone. On hybrid
// cgroups runc leaves that of a container which it has started again.
func (s *Service) removeGroups() {
	// Nothing else tells of containers that were removed.
	told, err := os.ReadFile(filepath.Join(s.dir, "tmp", "events", "events.log"))
	if err != nil {
		return
	}
	ids := containerID.FindAllString(string(told), -1)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		groups, err := filepath.Glob("/sys/fs/cgroup/*/libpod_parent/libpod-" + id)
		if err != nil {
			return
		}
		for _, dir := range groups {
			os.Remove(dir) //nolint:errcheck // it is not empty while the container runs
		}
	}
}

var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// children gives the processes that one has started.
func children(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// Ended is true where a process is no more, within some time at most.
func Ended(pid int, within time.Duration) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	deadline := time.Now().Add(within)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(0, int(time.Until(deadline).Milliseconds())))
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}
