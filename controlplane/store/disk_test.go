package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// The parts of TestDiskIsFull, each a process of its own. The disk is a small
// file system that only they see, and that is gone with them.
const (
	diskPart   = "SKERRY_TEST_DISK_PART"
	diskFolder = "SKERRY_TEST_DISK_FOLDER"
)

// A server whose disk is full may end, and has everything that it acknowledged
// when there is room again.
func TestDiskIsFull(t *testing.T) {
	folder := os.Getenv(diskFolder)
	switch os.Getenv(diskPart) {
	case "disk":
		fillDisk(t, folder)
	case "server":
		writeUntilTheEnd(t, folder)
	default:
		t.Parallel()
		command := diskProcess(t, "disk", t.TempDir())
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		output, err := command.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skip("it takes root to mount a file system")
		}
		t.Logf("%s", output)
		if err != nil {
			t.Error(err)
		}
	}
}

func diskProcess(t *testing.T, part, folder string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskIsFull$", "-test.v", "-test.timeout=60s")
	command.Env = append(os.Environ(), diskPart+"="+part, diskFolder+"="+folder)
	return command
}

// fillDisk makes the disk, fills it under a server that writes, and looks at
// what is left.
func fillDisk(t *testing.T, folder string) {
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=200m"); err != nil {
		t.Fatal(err)
	}
	server := diskProcess(t, "server", folder)
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	server.Stderr = &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged, filler := 0, filepath.Join(folder, "filler")
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "acknowledged "); found {
			fmt.Sscan(text, &acknowledged) //nolint:errcheck // it stays what it was
		}
		if acknowledged == 10 {
			fill(t, filler)
		}
	}
	err = server.Wait()
	t.Logf("after %d writes: %v, %s", acknowledged, err, &said)
	if err == nil {
		t.Error("the server has not noticed that its disk is full")
	}
	if acknowledged < 10 {
		t.Fatalf("only %d writes were acknowledged", acknowledged)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	e := open(t, filepath.Join(folder, "etcd"))
	state, err := e.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The one that was under way may be there too.
	if got := state.Services["web"].Revision; got != acknowledged && got != acknowledged+1 {
		t.Errorf("revision %d of %d that were acknowledged", got, acknowledged)
	}
	put(t, e, "web", acknowledged+2)
}

// fill takes what is left of a file's disk.
func fill(t *testing.T, path string) {
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nobody reads it
	for err == nil {
		_, err = file.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// writeUntilTheEnd is the server: it writes and tells, until it can't.
func writeUntilTheEnd(t *testing.T, folder string) {
	// It ends without cleaning up: all that it makes is on the disk.
	e, err := store.OpenEtcd(t.Context(), store.Member{Dir: filepath.Join(folder, "etcd"), Run: folder}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for revision := 1; ; revision++ {
		state, err := e.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		record := resources.ServiceRecord{Service: resources.Service{Name: "web"}, Revision: revision}
		record.Service.Env = map[string]string{"TEXT": strings.Repeat("x", 512<<10)}
		if err := e.Commit(ctx, state, []store.Change{store.PutService(record)}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("acknowledged", revision)
	}
}
