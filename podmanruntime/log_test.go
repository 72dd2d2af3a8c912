package podmanruntime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		name, log string
		kept      int64
		want      string
	}{
		{"it fits", "one\ntwo\n", 8, "one\ntwo\n"},
		{"a line begins right there", "one\ntwo\n", 4, "two\n"},
		{"in the middle of a line", "one\ntwo\n", 6, "two\n"},
		{"nothing whole is left", "one\ntwo\n", 3, ""},
		{"nothing is kept", "one\ntwo\n", 0, ""},
		{"the last line has no end", "one\ntwo", 3, "two"},
		{"a long line before", strings.Repeat("x", 9000) + "\ntwo\n", 8500, "two\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ctr.log")
			if err := os.WriteFile(path, []byte(c.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := (logFile{path, c.kept}).cut(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if err := (logFile{filepath.Join(t.TempDir(), "none"), 0}).cut(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent log: %v", err)
	}
}

// smallLogs bounds logs to 192KiB, of which a start keeps 64KiB. Podman adds
// about 40 bytes to each line.
var smallLogs = &resources.Logs{MaxSize: 64 * resources.KiB, MaxFiles: 3}

func logSize(t *testing.T, n node, id string) int64 {
	t.Helper()
	ctx, err := n.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	container, err := inspect(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(container.HostConfig.LogConfig.Path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func testLogBound(t *testing.T, n node) {
	id, pid := n.run(t, "chatty-0-aaaaaa", func(p *resources.Template) {
		p.Logs, p.Args = smallLogs, []string{"-lines", "20000", "-exit", "0"}
	})
	n.ended(t, id, pid)
	if got, most := logSize(t, n, id), int64(192*resources.KiB); got > most || got == 0 {
		t.Errorf("the log has %d bytes; want at most %d", got, most)
	}
	lines, err := n.Logs(t.Context(), id, 1)
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0], "exiting with 0") {
		t.Errorf("the last line is %q, %v", lines, err)
	}
}

// Each run writes 112 KB, less than the bound of one run.
func testLogBoundAcrossStarts(t *testing.T, n node) {
	id := n.create(t, "chatty-1-aaaaaa", func(p *resources.Template) {
		p.Logs, p.Args = smallLogs, []string{"-lines", "800", "-exit", "0"}
	})
	for i := range 6 {
		pid, err := n.Start(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		n.ended(t, id, pid)
		if got, most := logSize(t, n, id), int64(192*resources.KiB); got > most || got < 100_000 {
			t.Errorf("after start %d the log has %d bytes; want at most %d", i+1, got, most)
		}
	}
	lines, err := n.Logs(t.Context(), id, 10_000)
	if err != nil || len(lines) < 801 {
		t.Fatalf("%d lines are left of the last runs, %v", len(lines), err)
	}
}
