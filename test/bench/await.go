package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// awaitText returns once a file that others write contains the text so many
// times. The file
// must exist.
func awaitText(ctx context.Context, path, text string, times int) error {
	events, err := watchFile(path)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer events.Close()                                                          //nolint:errcheck // nothing was written
	defer context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Now()) })() //nolint:errcheck // then it ends later
	buffer := make([]byte, 4096)
	for {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		if bytes.Count(content, []byte(text)) >= times {
			return nil
		}
		if _, err := events.Read(buffer); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("wait for %q in %s: %w", text, path, err)
		}
	}
}

// watchFile gives a file from which a read returns once path was written to.
func watchFile(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		events.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return events, nil
}

// userHZ is the unit of times in /proc, per second: a constant on Linux.
const userHZ = 100

// qemuStart is when the process of a VM began, to 10 ms.
func qemuStart(domain string) (time.Time, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return time.Time{}, err
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte("\x00guest="+domain+",")) {
			continue
		}
		return processStart(filepath.Dir(path))
	}
	return time.Time{}, fmt.Errorf("machine %s has no process", domain)
}

// processStart reads when a process began, from its directory in /proc.
func processStart(dir string) (time.Time, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return time.Time{}, err
	}
	// The name in parentheses may hold anything; the 22nd field is the start,
	// since the machine's own (proc(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}, fmt.Errorf("%s/stat is too short", dir)
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read %s/stat: %w", dir, err)
	}
	var sinceBoot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot); err != nil {
		return time.Time{}, err
	}
	age := time.Duration(sinceBoot.Nano()) - time.Duration(ticks)*time.Second/userHZ
	return time.Now().Add(-age), nil
}
