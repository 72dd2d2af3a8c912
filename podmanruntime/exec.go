package podmanruntime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containers/podman/v4/pkg/api/handlers"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/docker/docker/api/types"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// maxOutput bounds what Exec keeps of a command's output, in bytes.
const maxOutput = 4 << 10

// Exec runs a command in a running container, and gives its exit code and what
// it wrote to both its outputs, at most the first 4 KiB. When ctx ends, the
// command is killed, and the error is of ctx.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (code int, output string, err error) {
	var said head
	code, err = r.Attach(ctx, id, resources.Command{Args: command}, resources.Streams{Out: &said, Err: &said})
	return code, strings.TrimSpace(said.String()), err
}

// head keeps the beginning of what is written.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), max(0, maxOutput-h.Len()))])
	return len(p), nil
}

// Attach runs a command in a running container with the caller's streams, and
// gives its exit code. The command is killed when ctx ends. Where s.In is given,
// it is read until it ends, be it longer than the command runs.
func (r *Runtime) Attach(ctx context.Context, id string, command resources.Command, s resources.Streams) (code int, err error) {
	// Not the connection of the other calls: the bindings take the next socket
	// that it opens for the command's, and leave it changed.
	attached, err := bindings.NewConnection(context.WithoutCancel(ctx), r.socketURI)
	if err != nil {
		return 0, fmt.Errorf("connect to Podman at %s: %w", r.socketURI, err)
	}
	if connection, err := bindings.GetClient(attached); err == nil {
		defer func() { connection.Client.CloseIdleConnections() }()
	}
	config := &handlers.ExecCreateConfig{ExecConfig: types.ExecConfig{
		Cmd: command.Args, AttachStdout: true, AttachStderr: true, AttachStdin: command.Input, Tty: command.Terminal,
	}}
	session, err := containers.ExecCreate(attached, id, config)
	if err != nil {
		return 0, fmt.Errorf("run a command in container %s: %w", short(id), err)
	}
	options := new(containers.ExecStartAndAttachOptions).WithOutputStream(s.Out).WithErrorStream(s.Err).WithAttachOutput(true).WithAttachError(true)
	if command.Input {
		options = options.WithInputStream(*bufio.NewReader(s.In)).WithAttachInput(true)
	}
	ended := make(chan error, 1)
	go func() { ended <- containers.ExecStartAndAttach(attached, session, options) }()
	if err := r.await(ctx, session, ended, s.Resize); err != nil {
		return 0, fmt.Errorf("run a command in container %s: %w", short(id), err)
	}
	state, err := r.session(context.WithoutCancel(ctx), session)
	if err != nil {
		return 0, fmt.Errorf("look how a command in container %s ended: %w", short(id), err)
	}
	return state.code, nil
}

// await returns when the command has ended.
func (r *Runtime) await(ctx context.Context, session string, ended <-chan error, resize <-chan resources.TerminalSize) error {
	for {
		select {
		case err := <-ended:
			return err
		case size := <-resize:
			if connected, err := r.connect(ctx); err == nil {
				options := new(containers.ResizeExecTTYOptions).WithWidth(size.Width).WithHeight(size.Height)
				containers.ResizeExecTTY(connected, session, options) //nolint:errcheck // of a command that has ended, or not begun yet
			}
		case <-ctx.Done():
			// Podman has no call that ends a command; its attachment ends with it.
			err := r.kill(context.WithoutCancel(ctx), session)
			if err == nil {
				<-ended //nolint:errcheck // it was ended
			}
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// kill ends the process of a command.
func (r *Runtime) kill(ctx context.Context, session string) error {
	state, err := r.session(ctx, session)
	if err != nil {
		return fmt.Errorf("end the command: %w", err)
	}
	if state.pid == 0 {
		return nil
	}
	if err := unix.Kill(state.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the command: %w", err)
	}
	return nil
}

// sessionState is where a command stands: the ID of its process, or zero where
// it has ended, and then its exit code.
type sessionState struct{ pid, code int }

func (r *Runtime) session(ctx context.Context, session string) (sessionState, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return sessionState{}, err
	}
	state, err := containers.ExecInspect(ctx, session, nil)
	switch {
	case err != nil:
		return sessionState{}, err
	case state.Running:
		return sessionState{pid: state.Pid}, nil
	default:
		return sessionState{code: state.ExitCode}, nil
	}
}
