package podmanruntime

import (
	"context"
	"errors"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"golang.org/x/sys/unix"
)

// exitTimeout bounds the time between the end of a process and the file by
// which conmon tells Podman: some milliseconds, unless the machine is starved.
const exitTimeout = 5 * time.Second

// hasExited tells whether the process has ended, as the kernel sees it: Podman
// hears of it later, from conmon. Whatever hinders the look means no.
func hasExited(pid int) bool {
	if pid <= 0 {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// hasEnded tells whether a container that was started doesn't run, be it that
// Podman knows or not.
func hasEnded(state *define.InspectContainerState) bool {
	return !isRunning(state.Status) || hasExited(state.Pid)
}

// awaitExit returns once Podman knows that the container has ended. It is for
// containers whose process is gone.
func awaitExit(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, exitTimeout)
	defer cancel()
	// The interval is that of the check inside Podman's service.
	_, err := containers.Wait(ctx, id, new(containers.WaitOptions).WithInterval("5ms"))
	return err
}
