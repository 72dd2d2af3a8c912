package cgroup

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

const (
	mountV2     = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
	mountHybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestUsage(t *testing.T) {
	stat := "anon 100\ninactive_file 300\nactive_file 50\ntotal_inactive_file 400\n"
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		want  Usage
		err   string
	}{
		{"v2", fstest.MapFS{
			"proc/self/mountinfo": file(mountV2),
			"proc/7/cgroup":       file("0::/machine.slice/libpod-abc.scope\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/cpu.stat":       file("usage_usec 1500000\nuser_usec 1\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/memory.current": file("1000\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/memory.stat":    file(stat),
		}, Usage{1500 * time.Millisecond, 700}, ""},
		{"v2, in a cgroup below the container's", fstest.MapFS{
			"proc/self/mountinfo": file(mountV2),
			"proc/7/cgroup":       file("0::/machine.slice/libpod-abc.scope/container/init.scope\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/cpu.stat":       file("usage_usec 5\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/memory.current": file("100\n"),
			"sys/fs/cgroup/machine.slice/libpod-abc.scope/memory.stat":    file(stat),
		}, Usage{5 * time.Microsecond, 0}, ""},
		{"hybrid, with the controllers in v1", fstest.MapFS{
			"proc/self/mountinfo": file(mountHybrid),
			"proc/7/cgroup":       file("5:memory:/libpod_parent/libpod-abc\n2:cpu,cpuacct:/libpod_parent/libpod-abc\n0::/\n"),
			"sys/fs/cgroup/cpu,cpuacct/libpod_parent/libpod-abc/cpuacct.usage":    file("2000000000\n"),
			"sys/fs/cgroup/memory/libpod_parent/libpod-abc/memory.usage_in_bytes": file("1000\n"),
			"sys/fs/cgroup/memory/libpod_parent/libpod-abc/memory.stat":           file(stat),
		}, Usage{2 * time.Second, 600}, ""},
		{"a part of the hierarchy is mounted", fstest.MapFS{
			"proc/self/mountinfo":                     file(strings.Replace(mountV2, " / ", " /outer ", 1)),
			"proc/7/cgroup":                           file("0::/outer/libpod-abc\n"),
			"sys/fs/cgroup/libpod-abc/cpu.stat":       file("usage_usec 1\n"),
			"sys/fs/cgroup/libpod-abc/memory.current": file("500\n"),
			"sys/fs/cgroup/libpod-abc/memory.stat":    file(stat),
		}, Usage{time.Microsecond, 200}, ""},
		{"no such process", fstest.MapFS{"proc/self/mountinfo": file(mountV2)}, Usage{}, "find the cgroup of process 7"},
		{"no cgroups", fstest.MapFS{"proc/self/mountinfo": file(""), "proc/7/cgroup": file("0::/a\n")}, Usage{}, "no processor time"},
		{"not a number", fstest.MapFS{
			"proc/self/mountinfo":      file(mountV2),
			"proc/7/cgroup":            file("0::/a\n"),
			"sys/fs/cgroup/a/cpu.stat": file("usage_usec many\n"),
		}, Usage{}, "usage_usec"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := New(c.files).Usage(7)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("the error is %v", err)
			}
			if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}

// The kernel of this machine tells what the test itself uses.
func TestThisMachine(t *testing.T) {
	got, err := New(os.DirFS("/")).Usage(os.Getpid())
	if err != nil {
		t.Skipf("the machine has no cgroups: %v", err)
	}
	if got.CPU <= 0 || got.Memory < resources.MiB {
		t.Errorf("the test uses %+v", got)
	}
}
