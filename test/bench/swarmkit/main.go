// Swarmkit places the workload that it reads from its standard input with
// swarmkit's scheduler, and says how long that took. It is what skerry's own
// scheduler is measured against (see ../schedule.go), and a module of its own,
// so that nothing else depends on swarmkit.
//
// Nodes and tasks are in swarmkit's in-memory store before the clock starts. It
// stops when a watcher of the store has seen the last task on a node.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/moby/swarmkit/v2/api"
	"github.com/moby/swarmkit/v2/manager/scheduler"
	"github.com/moby/swarmkit/v2/manager/state"
	"github.com/moby/swarmkit/v2/manager/state/store"
	"github.com/sirupsen/logrus"
)

// workload is that of ../schedule.go, with the same JSON.
type workload struct {
	Nodes    []node
	Services []service
}

type node struct {
	Name   string
	Labels map[string]string
	CPU    int64 // thousandths of a core
	Memory int64 // bytes
	// Fillers run there already, each of FillerCPU and FillerMemory.
	Fillers                 int
	FillerCPU, FillerMemory int64
}

type service struct {
	Name        string
	Replicas    int
	CPU, Memory int64
	// Constraint is a key, == or !=, and a value, or empty.
	Constraint []string
	Spread     string // label, or empty
}

// result is how the run went.
type result struct {
	Seconds float64
	Placed  int
	// Nodes that took something, and the most that one took.
	Nodes, Most int
}

func main() {
	logrus.SetOutput(io.Discard)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "swarmkit:", err)
		os.Exit(1)
	}
}

func run() error {
	var w workload
	if err := json.NewDecoder(os.Stdin).Decode(&w); err != nil {
		return fmt.Errorf("read the workload: %w", err)
	}
	s := store.NewMemoryStore(nil)
	defer s.Close() //nolint:errcheck // it is in memory
	watch, cancel := state.Watch(s.WatchQueue(), api.EventUpdateTask{})
	defer cancel()
	pending, err := fill(s, w)
	if err != nil {
		return err
	}
	sch := scheduler.New(s)
	failed := make(chan error, 1)
	runtime.GC() // what fill has left is not for the clock
	began := time.Now()
	go func() { failed <- sch.Run(context.Background()) }()
	defer sch.Stop()
	placed := map[string]string{}
	for len(placed) < pending {
		select {
		case err := <-failed:
			return errors.Join(errors.New("the scheduler ended"), err)
		case event := <-watch:
			if t := event.(api.EventUpdateTask).Task; t.NodeID != "" && t.Status.State == api.TaskStateAssigned {
				placed[t.ID] = t.NodeID
			}
		}
	}
	r := result{Seconds: time.Since(began).Seconds(), Placed: len(placed)}
	perNode := map[string]int{}
	for _, id := range placed {
		perNode[id]++
		r.Most = max(r.Most, perNode[id])
	}
	r.Nodes = len(perNode)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// fill puts the nodes and tasks into the store, in transactions of a size that
// it takes, and returns how many tasks wait.
func fill(s *store.MemoryStore, w workload) (pending int, err error) {
	err = s.Batch(func(b *store.Batch) error {
		for i, n := range w.Nodes {
			if err := b.Update(func(tx store.Tx) error { return createNode(tx, i, n) }); err != nil {
				return err
			}
		}
		for _, svc := range w.Services {
			for slot := range svc.Replicas {
				pending++
				if err := b.Update(func(tx store.Tx) error { return store.CreateTask(tx, task(svc, slot)) }); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return pending, err
}

func createNode(tx store.Tx, index int, n node) error {
	id := "n" + strconv.Itoa(index)
	created := &api.Node{
		ID:          id,
		Spec:        api.NodeSpec{Annotations: api.Annotations{Name: n.Name, Labels: n.Labels}, Availability: api.NodeAvailabilityActive},
		Status:      api.NodeStatus{State: api.NodeStatus_READY},
		Description: &api.NodeDescription{Hostname: n.Name, Engine: &api.EngineDescription{}, Resources: resources(n.CPU, n.Memory)},
	}
	if err := store.CreateNode(tx, created); err != nil {
		return err
	}
	filler := service{Name: "filler", CPU: n.FillerCPU, Memory: n.FillerMemory}
	for i := range n.Fillers {
		t := task(filler, index*n.Fillers+i)
		t.NodeID, t.Status.State = id, api.TaskStateRunning
		if err := store.CreateTask(tx, t); err != nil {
			return err
		}
	}
	return nil
}

func task(svc service, slot int) *api.Task {
	t := &api.Task{
		ID: svc.Name + "-" + strconv.Itoa(slot), ServiceID: svc.Name, SpecVersion: &api.Version{Index: 1}, Slot: uint64(slot + 1),
		DesiredState: api.TaskStateRunning, Status: api.TaskStatus{State: api.TaskStatePending},
		ServiceAnnotations: api.Annotations{Name: svc.Name},
		Spec: api.TaskSpec{
			Runtime:   &api.TaskSpec_Container{Container: &api.ContainerSpec{}},
			Resources: &api.ResourceRequirements{Reservations: resources(svc.CPU, svc.Memory)},
		},
	}
	if svc.Constraint == nil && svc.Spread == "" {
		return t
	}
	t.Spec.Placement = &api.Placement{}
	if c := svc.Constraint; c != nil {
		t.Spec.Placement.Constraints = []string{"node.labels." + c[0] + c[1] + c[2]}
	}
	if svc.Spread != "" {
		over := &api.SpreadOver{SpreadDescriptor: "node.labels." + svc.Spread}
		t.Spec.Placement.Preferences = []*api.PlacementPreference{{Preference: &api.PlacementPreference_Spread{Spread: over}}}
	}
	return t
}

func resources(cpu, memory int64) *api.Resources {
	return &api.Resources{NanoCPUs: cpu * 1e6, MemoryBytes: memory}
}
