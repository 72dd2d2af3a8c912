package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart gives back the pages of the program's file that only its start has
// needed, which is a third of what an agent has resident. What is needed again is
// mapped again from the page cache.
func forgetStart(log *slog.Logger) {
	if err := forgetPages(); err != nil {
		log.Warn("the process keeps more memory than it needs", "err", err)
	}
}

func forgetPages() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("list the program's memory: %w", err)
	}
	defer maps.Close() //nolint:errcheck // it was read
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasSuffix(lines.Text(), " "+program) {
			continue
		}
		if strings.Contains(mode, "w") {
			continue // what was written there is nowhere else
		}
		if _, _, failed := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); failed != 0 {
			return fmt.Errorf("give back %x-%x of the program: %w", from, to, failed)
		}
	}
	return lines.Err()
}
