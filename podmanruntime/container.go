package podmanruntime

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings/containers"

	"github.com/skerry-io/skerry/resources"
)

// Create makes the replica's container, without starting it, and gives its ID.
// A replica never changes, so a container that was made for it before is the
// right one. The image must be there: see Pull. The error is a
// *resources.Failure.
func (r *Runtime) Create(ctx context.Context, replica resources.Replica) (string, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	id, err := r.create(ctx, replica)
	if err != nil {
		return "", classify(fmt.Errorf("create container of replica %s: %w", replica.ID, err), resources.ReasonCreateFailed)
	}
	return id, nil
}

func (r *Runtime) create(ctx context.Context, replica resources.Replica) (string, error) {
	if t := &replica.Template; len(t.Args) > 0 && len(t.Command) == 0 && len(t.Entrypoint) == 0 {
		// Args are added to the image's command; in a spec they replace it.
		command, err := imageCommand(ctx, imageReference(t.Image, replica.ImageDigest))
		if err != nil {
			return "", err
		}
		t.Command = command
	}
	s, err := spec(replica, r.Namespaces)
	if err != nil {
		return "", err
	}
	made, err := containers.CreateWithSpec(ctx, s, nil)
	if err == nil {
		return made.ID, nil
	}
	if !strings.Contains(err.Error(), "already in use") {
		return "", err
	}
	existing, inspectErr := inspect(ctx, s.Name)
	switch {
	case inspectErr == nil && existing.Config != nil && existing.Config.Labels[LabelReplica] == string(replica.ID):
		return existing.ID, nil
	case inspectErr == nil:
		return "", fmt.Errorf("%w; that container is not skerry's: remove or rename it", err)
	case !isNotFound(inspectErr):
		return "", errors.Join(err, inspectErr)
	}
	// The storage knows the name and Podman does not: what is left of a create
	// that was cut short, by a power loss perhaps. Nothing but a removal helps.
	if removeErr := remove(ctx, s.Name); removeErr != nil {
		return "", errors.Join(err, removeErr)
	}
	made, err = containers.CreateWithSpec(ctx, s, nil)
	return made.ID, err
}

// Start starts a container and gives the process ID of its first process, on
// the node; one that runs already is left alone. The ID is 0 where the process
// has ended by then. The error is a *resources.Failure.
func (r *Runtime) Start(ctx context.Context, id string) (int, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.cutLog(id); err != nil {
		return 0, err
	}
	asked := time.Now()
	state, err := start(ctx, id)
	if err != nil && endedTooSoon(err) && awaitExit(ctx, id) == nil {
		return 0, nil
	}
	if err == nil && hasEnded(state) && state.StartedAt.Before(asked) {
		// Podman had not seen the end of the last run, and took the container
		// for a running one.
		if err = awaitExit(ctx, id); err == nil {
			state, err = start(ctx, id)
		}
	}
	if err != nil {
		return 0, classify(fmt.Errorf("start container %s: %w", short(id), err), resources.ReasonCreateFailed)
	}
	if hasEnded(state) {
		return 0, nil
	}
	return state.Pid, nil
}

// start starts the container, and gives its state after that.
func start(ctx context.Context, id string) (*define.InspectContainerState, error) {
	if err := containers.Start(ctx, id, nil); err != nil {
		return nil, err
	}
	container, err := inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	return container.State, nil
}

// Stop sends the stop signal, waits for the grace period, then kills; both are
// in the container's spec. It returns once the container has ended. One that
// does not run, or is absent, is success.
func (r *Runtime) Stop(ctx context.Context, id string) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err := containers.Stop(ctx, id, nil); err != nil && !isNotFound(err) {
		return fmt.Errorf("stop container %s: %w", short(id), err)
	}
	return nil
}

// Remove kills the container if it runs, and removes it with its anonymous
// volumes. An absent one is success.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx, err := r.connect(ctx)
	if err != nil {
		return err
	}
	return remove(ctx, id)
}

func remove(ctx context.Context, id string) error {
	// Podman 4.3 removes a container that is just being stopped without ending
	// its process, which would then run on, unknown to anyone.
	switch err := containers.Kill(ctx, id, new(containers.KillOptions).WithSignal("KILL")); {
	case err == nil:
		if err := awaitExit(ctx, id); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove container %s: wait for its end: %w", short(id), err)
		}
	case !isNotFound(err) && !isImproperState(err): // absent, or not running
		return fmt.Errorf("remove container %s: kill it: %w", short(id), err)
	}
	options := new(containers.RemoveOptions).WithForce(true).WithVolumes(true).WithTimeout(0)
	reports, err := containers.Remove(ctx, id, options)
	for _, report := range reports {
		err = errors.Join(err, report.Err)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove container %s: %w", short(id), err)
	}
	return nil
}

// Logs gives the last lines that the container wrote, standard output and
// error in the order of their arrival, without line ends. An absent container
// has none.
func (r *Runtime) Logs(ctx context.Context, id string, lines int) ([]string, error) {
	if lines <= 0 {
		return nil, nil
	}
	ctx, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	options := new(containers.LogOptions).WithStdout(true).WithStderr(true).WithTail(strconv.Itoa(lines))
	// One channel for both streams keeps their order. Logs sends on it until
	// it returns.
	frames, done := make(chan string), make(chan error, 1)
	go func() {
		done <- containers.Logs(ctx, id, options, frames, frames)
		close(frames)
	}()
	var tail []string
	for frame := range frames {
		tail = append(tail, strings.TrimRight(frame, "\r\n"))
	}
	if err := <-done; err != nil && !isNotFound(err) {
		return nil, fmt.Errorf("read logs of container %s: %w", short(id), err)
	}
	return tail[max(0, len(tail)-lines):], nil
}

// inspect gives all that Podman knows of the container; its State is never nil.
func inspect(ctx context.Context, id string) (*define.InspectContainerData, error) {
	container, err := containers.Inspect(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	if container.State == nil {
		return nil, errors.New("the answer has no state")
	}
	return container, nil
}

// short is the ID as Podman prints it.
func short(id string) string {
	if len(id) != 64 {
		return id // it is a name
	}
	return id[:12]
}
