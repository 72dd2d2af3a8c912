package podmanruntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/containers/podman/v4/pkg/domain/entities"

	"github.com/skerry-io/skerry/resources"
)

// run is one run of a container.
type run struct {
	id  string
	pid int
}

// List gives every container of skerry's on this machine, sorted by replica.
// It is one call, and an inspection of each container that has started since
// the last List, or has ended. A container whose process has ended is never
// told as running, even where Podman is behind; and one that is damaged hides
// none of the others.
func (r *Runtime) List(ctx context.Context) ([]resources.Container, error) {
	ctx, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	options := new(containers.ListOptions).WithAll(true).WithFilters(map[string][]string{"label": {LabelReplica}})
	listed, err := containers.List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	running := map[run]resources.Container{}
	all := make([]resources.Container, 0, len(listed))
	for _, entry := range listed {
		c, err := r.look(ctx, entry)
		if isNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil && isDamaged(err) {
			c.Damaged, err = true, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list containers: inspect %s: %w", short(entry.ID), err)
		}
		if c.Running {
			running[run{c.ID, c.PID}] = c
		}
		all = append(all, c)
	}
	r.mu.Lock()
	r.running = running
	maps.DeleteFunc(r.logs, func(id string, _ logFile) bool {
		return !slices.ContainsFunc(all, func(c resources.Container) bool { return c.ID == id })
	})
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b resources.Container) int {
		return cmp.Or(cmp.Compare(a.Replica, b.Replica), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// look completes what the listing says of one container.
func (r *Runtime) look(ctx context.Context, entry entities.ListContainer) (resources.Container, error) {
	c := resources.Container{ID: entry.ID, Replica: resources.ReplicaID(entry.Labels[LabelReplica]), Image: entry.ImageID}
	switch {
	case !hasStarted(entry.State):
		c.Created = true
		return c, nil
	case isRunning(entry.State) && hasExited(entry.Pid):
		err := awaitExit(ctx, entry.ID)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			c.Damaged = true // nobody is left who would tell Podman
			return c, nil
		}
		if err != nil {
			return c, err
		}
	case isRunning(entry.State):
		r.mu.Lock()
		known, found := r.running[run{entry.ID, entry.Pid}]
		r.mu.Unlock()
		if found {
			return known, nil
		}
	}
	container, err := inspect(ctx, entry.ID)
	if err != nil {
		return c, err
	}
	if !isRunning(container.State.Status) {
		r.noteLog(container)
	}
	return observed(c, container), nil
}

// observed adds to c what the inspection shows.
func observed(c resources.Container, container *define.InspectContainerData) resources.Container {
	state := container.State
	c.Created = !hasStarted(state.Status)
	if c.Created {
		return c
	}
	c.StartedAt = state.StartedAt
	if isRunning(state.Status) {
		c.Running, c.PID, c.Address = true, state.Pid, address(container)
		return c
	}
	c.ExitCode, c.OOMKilled, c.FinishedAt = int(state.ExitCode), state.OOMKilled, state.FinishedAt
	return c
}

// hasStarted is false from the creation to the first start. The two states of
// that time are called after those of Docker, where they have one.
func hasStarted(state string) bool {
	return state != define.ContainerStateConfigured.String() && state != define.ContainerStateCreated.String()
}

// isRunning tells whether a container of that state has a process.
func isRunning(state string) bool {
	switch state {
	case define.ContainerStateRunning.String(), define.ContainerStatePaused.String(), define.ContainerStateStopping.String():
		return true
	}
	return false
}

// address is the container's on the cluster's first network, or on Podman's
// bridge: there it stands beside the default network in some versions, and in it
// in others.
func address(container *define.InspectContainerData) string {
	if own := container.Config.Labels[labelAddress]; own != "" {
		return own
	}
	network := container.NetworkSettings
	if network == nil {
		return ""
	}
	if network.IPAddress != "" {
		return network.IPAddress
	}
	for _, name := range slices.Sorted(maps.Keys(network.Networks)) {
		if n := network.Networks[name]; n != nil && n.IPAddress != "" {
			return n.IPAddress
		}
	}
	return ""
}
