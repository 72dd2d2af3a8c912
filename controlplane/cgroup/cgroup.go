// Package cgroup reads from the kernel what a container uses: of cgroup v2, of
// v1, and of a machine that has both, with each controller in one of them.
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Usage is what a container has used so far, and uses now.
type Usage struct {
	// CPU is processor time since its start.
	CPU time.Duration
	// Memory is what it uses, but for files that the kernel could drop at once, as
	// the kubelet counts it: whatever is left when memory is short.
	Memory resources.Bytes
}

// Reader finds cgroups below the root of a file system.
type Reader struct{ root fs.FS }

// New makes a Reader; root is `/`.
func New(root fs.FS) Reader { return Reader{root} }

// mount is a mounted hierarchy: which part of it, and where. A v1 hierarchy has
// controllers, and that of v2 is unified.
type mount struct {
	of, at      string
	controllers []string
	unified     bool
}

// Usage tells what the container of a process uses.
func (r Reader) Usage(pid int) (Usage, error) {
	mounts, err := r.mounts()
	if err != nil {
		return Usage{}, err
	}
	member, err := fs.ReadFile(r.root, fmt.Sprintf("proc/%d/cgroup", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	var u Usage
	if at, found := place(mounts, member, "cpuacct"); found {
		u.CPU, err = r.timeV1(at)
	} else if at, found := place(mounts, member, ""); found {
		u.CPU, err = r.timeV2(at)
	} else {
		err = errors.New("the kernel counts no processor time by cgroup")
	}
	if err != nil {
		return Usage{}, err
	}
	if at, found := place(mounts, member, "memory"); found {
		u.Memory, err = r.memory(at, "memory.usage_in_bytes", "total_inactive_file")
	} else if at, found := place(mounts, member, ""); found {
		u.Memory, err = r.memory(at, "memory.current", "inactive_file")
	} else {
		err = errors.New("the kernel counts no memory by cgroup")
	}
	return u, err
}

// mounts lists the hierarchies from mountinfo; see proc(5).
func (r Reader) mounts() ([]mount, error) {
	text, err := fs.ReadFile(r.root, "proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroups: %w", err)
	}
	var all []mount
	for line := range bytes.Lines(text) {
		before, after, found := strings.Cut(string(line), " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !found || len(where) < 5 || len(what) < 3 {
			continue
		}
		m := mount{of: where[3], at: where[4]}
		switch what[0] {
		case "cgroup2":
			m.unified = true
		case "cgroup":
			m.controllers = strings.Split(what[2], ",")
		default:
			continue
		}
		all = append(all, m)
	}
	return all, nil
}

// place finds the directory of a process for a controller of v1, or in the
// unified hierarchy where none is named.
func place(mounts []mount, member []byte, controller string) (string, bool) {
	for line := range bytes.Lines(member) {
		words := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(words) != 3 || (controller == "") != (words[1] == "") || controller != "" && !slices.Contains(strings.Split(words[1], ","), controller) {
			continue
		}
		for _, m := range mounts {
			if m.unified == (controller == "") && (m.unified || slices.Contains(m.controllers, controller)) {
				return path.Join(m.at, within(m.of, whole(words[2])))[1:], true
			}
		}
	}
	return "", false
}

// whole is the cgroup of the container that a process is in: a runtime, or a
// systemd in the container, may have put it further down.
func whole(cgroup string) string {
	parts := strings.Split(cgroup, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "libpod-") && !strings.HasPrefix(part, "libpod-conmon") {
			return strings.Join(parts[:i+1], "/")
		}
	}
	return cgroup
}

// within gives the path of a cgroup below what is mounted of its hierarchy.
func within(mounted, cgroup string) string {
	if rest, below := strings.CutPrefix(cgroup, mounted); below && mounted != "/" {
		return "/" + rest
	}
	return cgroup
}

func (r Reader) timeV1(at string) (time.Duration, error) {
	nanoseconds, err := r.number(at + "/cpuacct.usage")
	return time.Duration(nanoseconds), err
}

func (r Reader) timeV2(at string) (time.Duration, error) {
	microseconds, err := r.field(at+"/cpu.stat", "usage_usec")
	return time.Duration(microseconds) * time.Microsecond, err
}

func (r Reader) memory(at, used, files string) (resources.Bytes, error) {
	all, err := r.number(at + "/" + used)
	if err != nil {
		return 0, err
	}
	inactive, err := r.field(at+"/memory.stat", files)
	return resources.Bytes(max(all-inactive, 0)), err
}

func (r Reader) number(file string) (int64, error) {
	text, err := fs.ReadFile(r.root, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}

// field reads one line of a file with a name and a number on each.
func (r Reader) field(file, name string) (int64, error) {
	text, err := fs.ReadFile(r.root, file)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), " "); key == name {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s of %s: %w", name, file, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
