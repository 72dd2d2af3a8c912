package podmanruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containers/podman/v4/pkg/api/handlers"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/docker/docker/api/types"
	"golang.org/x/sys/unix"
)

// maxOutput bounds what Exec keeps of a command's output, in bytes.
const maxOutput = 4 << 10

// Exec runs a command in a running container, and gives its exit code and what
// it wrote to both its outputs, at most the first 4 KiB. When ctx ends, the
// command is killed, and the error is of ctx.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (code int, output string, err error) {
	ctx, err = r.connect(ctx)
	if err != nil {
		return 0, "", err
	}
	config := &handlers.ExecCreateConfig{ExecConfig: types.ExecConfig{Cmd: command, AttachStdout: true, AttachStderr: true}}
	session, err := containers.ExecCreate(ctx, id, config)
	if err != nil {
		return 0, "", fmt.Errorf("run a command in container %s: %w", short(id), err)
	}
	var said head
	ended := make(chan error, 1)
	go func() {
		ended <- containers.ExecStartAndAttach(context.WithoutCancel(ctx), session,
			new(containers.ExecStartAndAttachOptions).WithOutputStream(&said).WithErrorStream(&said).WithAttachOutput(true).WithAttachError(true))
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		// Podman has no call that ends a command; its attachment ends with it.
		killed := killCommand(context.WithoutCancel(ctx), session)
		if killed == nil {
			<-ended //nolint:errcheck // it was ended
		}
		return 0, "", errors.Join(context.Cause(ctx), killed)
	}
	if err != nil {
		return 0, "", fmt.Errorf("run a command in container %s: %w", short(id), err)
	}
	// Not ctx: the command has ended.
	state, err := containers.ExecInspect(context.WithoutCancel(ctx), session, nil)
	if err != nil {
		return 0, "", fmt.Errorf("look how a command in container %s ended: %w", short(id), err)
	}
	return state.ExitCode, strings.TrimSpace(said.String()), nil
}

// killCommand ends the process of a command.
func killCommand(ctx context.Context, session string) error {
	state, err := containers.ExecInspect(ctx, session, nil)
	if err != nil {
		return fmt.Errorf("end a command that takes too long: %w", err)
	}
	if state.Pid <= 0 || !state.Running {
		return nil
	}
	if err := unix.Kill(state.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end a command that takes too long: %w", err)
	}
	return nil
}

// head keeps the beginning of what is written.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), max(0, maxOutput-h.Len()))])
	return len(p), nil
}
