package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/cgroup"
	"github.com/skerry-io/skerry/controlplane/exposition"
	"github.com/skerry-io/skerry/resources"
)

// containers is the runtime of a machine. What it holds outlives the agent, and
// also the power, but for what runs.
type containers struct {
	mu      sync.Mutex // guards all below
	all     map[string]*container
	images  map[string]bool
	faults  []*fault
	meeting int // steps that meet a fault now
	metLast time.Time
	exits   map[chan string]bool
	clock   time.Duration // how far the machine's clock is ahead
	last    time.Time
	happens func(what string)
	// demand is what each running replica of a service would use, in millicores.
	demand func(service string) float64
}

type container struct {
	resources.Container
	replica resources.Replica
	// used is the processor time up to a moment, since which it has used more.
	used  time.Duration
	until time.Time
}

// fault makes steps fail, or take long.
type fault struct {
	step    string // pull, create, start, stop, remove, list or logs
	service string // of any service where it is empty
	image   string // of any image where it is empty
	times   int    // how often; for ever where it is negative
	// Beforehand the step takes so long; it fails unless slow is true. Where late
	// is true, it fails although it was done.
	takes      time.Duration
	slow, late bool
}

func newContainers() *containers {
	return &containers{all: map[string]*container{}, images: map[string]bool{}, exits: map[chan string]bool{}, happens: func(string) {}, demand: func(string) float64 { return 0 }}
}

var errInjected = errors.New("injected fault")

// step lets a step meet its fault. A late fault is returned apart: the step is
// done, and its error returned nevertheless.
func (c *containers) step(ctx context.Context, step string, r resources.Replica) (late, err error) {
	c.mu.Lock()
	var met *fault
	for _, f := range c.faults {
		if f.step == step && f.times != 0 && (f.service == "" || f.service == r.Service) && (f.image == "" || f.image == r.Template.Image) {
			met = f
			f.times--
			break
		}
	}
	c.mu.Unlock()
	if met == nil {
		return nil, ctx.Err()
	}
	c.met(1)
	defer c.met(-1)
	if err := sleep(ctx, met.takes); err != nil {
		return nil, err
	}
	switch reason := map[string]resources.Reason{"pull": resources.ReasonImagePull, "start": resources.ReasonCommandNotFound}[step]; {
	case met.slow:
		return nil, nil
	case met.late:
		return errInjected, nil
	case reason != "":
		return nil, &resources.Failure{Reason: reason, Err: fmt.Errorf("%s: %w", step, errInjected)}
	default:
		return nil, fmt.Errorf("%s: %w", step, errInjected)
	}
}

// now is the machine's time. It is another one at each call, as it is on a clock
// that is not virtual. c.mu is held.
func (c *containers) now() time.Time {
	now := time.Now().Round(0).Add(c.clock)
	if ahead := c.last.Sub(now); ahead >= 0 && ahead < time.Millisecond {
		now = c.last.Add(1)
	}
	c.last = now
	return now
}

func (c *containers) List(ctx context.Context) ([]resources.Container, error) {
	if _, err := c.step(ctx, "list", resources.Replica{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []resources.Container
	for _, one := range c.all {
		list = append(list, one.Container)
	}
	return list, nil
}

func (c *containers) Pull(ctx context.Context, image, _, _ string, _ ...resources.Login) error {
	// The replica that it is for is not told.
	late, err := c.step(ctx, "pull", resources.Replica{Service: serviceOf(image), Template: resources.Template{Image: image}})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images[image] = true
	return late
}

// serviceOf tells which service runs an image, as in "docker.io/library/web:1".
func serviceOf(image string) string {
	name, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return name
}

func (c *containers) Create(ctx context.Context, r resources.Replica) (string, error) {
	late, err := c.step(ctx, "create", r)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := string(r.ID)
	if !c.images[r.Template.Image] {
		return "", &resources.Failure{Reason: resources.ReasonImagePull, Err: errors.New("image not known")}
	}
	if _, found := c.all[id]; !found {
		c.all[id] = &container{Container: resources.Container{ID: id, Replica: r.ID, Created: true}, replica: r}
	}
	return id, late
}

// find gives the container, or an error as Podman's is.
func (c *containers) find(id string) (*container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, found := c.all[id]
	if !found {
		return nil, fmt.Errorf("no container with name or ID %q found", id)
	}
	return one, nil
}

func (c *containers) Start(ctx context.Context, id string) (int, error) {
	one, err := c.find(id)
	if err != nil {
		return 0, err
	}
	late, err := c.step(ctx, "start", one.replica)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.Running {
		return 0, late
	}
	if port := c.taken(one); port > 0 {
		return 0, &resources.Failure{Reason: resources.ReasonPortTaken, Err: fmt.Errorf("port %d is taken", port)}
	}
	one.Created, one.Running, one.StartedAt, one.until = false, true, c.now(), time.Now()
	c.happens(label(one.replica) + " starts")
	if strings.HasSuffix(one.replica.Template.Image, "-broken") {
		c.end(one, 1)
	}
	return 0, late
}

// taken gives a port of the container that another one publishes.
func (c *containers) taken(one *container) int {
	for _, other := range c.all {
		for _, p := range other.replica.Template.Ports {
			same := func(q resources.Port) bool { return q.Node() == p.Node() }
			if other != one && other.Running && slices.ContainsFunc(one.replica.Template.Ports, same) {
				return p.Node()
			}
		}
	}
	return 0
}

// end ends a container. c.mu is held.
func (c *containers) end(one *container, code int) {
	if !one.Running {
		return
	}
	one.Running, one.ExitCode, one.FinishedAt = false, code, c.now()
	c.happens(fmt.Sprintf("%s ends with %d", label(one.replica), code))
	for exits := range c.exits {
		select {
		case exits <- one.ID:
		default:
		}
	}
}

func (c *containers) Stop(ctx context.Context, id string) error {
	one, err := c.find(id)
	if err != nil {
		return err
	}
	late, err := c.step(ctx, "stop", one.replica)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(one, 0)
	return late
}

func (c *containers) Remove(ctx context.Context, id string) error {
	one, err := c.find(id)
	if err != nil {
		return nil // what is absent is removed
	}
	late, err := c.step(ctx, "remove", one.replica)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(one, 137)
	delete(c.all, id)
	return late
}

// Exec is of probes, which are tested elsewhere.
func (c *containers) Exec(context.Context, string, []string) (code int, output string, err error) {
	return 0, "", nil
}

func (c *containers) Logs(ctx context.Context, id string, _ int) ([]string, error) {
	if _, err := c.find(id); err != nil {
		return nil, err
	}
	return []string{"last words"}, ctx.Err()
}

func (c *containers) Exits(ctx context.Context) (<-chan string, error) {
	exits := make(chan string, 100)
	c.mu.Lock()
	c.exits[exits] = true
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.exits, exits)
	})
	return exits, nil
}

// A volume is where a container says it is; see invariants.oneWriter.
func (c *containers) PutVolume(ctx context.Context, _ resources.RuntimeVolume) error {
	return ctx.Err()
}
func (c *containers) RemoveVolume(ctx context.Context, _ string) error { return ctx.Err() }
func (c *containers) MountVolume(ctx context.Context, _ resources.RuntimeVolume, _ resources.Replica) (string, func(context.Context) error, error) {
	return "", nil, errors.Join(errors.ErrUnsupported, ctx.Err())
}
func (c *containers) ListVolumes(ctx context.Context) ([]string, error) { return nil, ctx.Err() }

func (c *containers) Version(ctx context.Context) (string, error) { return "5.4.2", ctx.Err() }

// Usage is that of what is asked of the service, as far as the container may use
// it.
func (c *containers) Usage(of resources.Container) (cgroup.Usage, error) {
	one, err := c.find(of.ID)
	if err != nil {
		return cgroup.Usage{}, err
	}
	demand := c.demand(one.replica.Service)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	use := min(demand, float64(one.replica.Template.Resources.CPU)) / 1000
	one.used += time.Duration(use * float64(now.Sub(one.until)))
	one.until = now
	return cgroup.Usage{CPU: one.used, Memory: resources.MiB}, nil
}

// Page is of what containers expose, which is tested elsewhere.
func (c *containers) Page(context.Context, resources.Container, int, string) (exposition.Page, error) {
	return exposition.Page{}, errors.New("nobody listens")
}

// count counts what runs of a service.
func (c *containers) count(service string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, one := range c.all {
		if one.Running && one.replica.Service == service {
			count++
		}
	}
	return count
}

// crash ends what runs of a service's slot, and is false where nothing does.
func (c *containers) crash(service string, slot, code int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.all {
		if one.Running && one.replica.Service == service && one.replica.Slot == slot {
			c.end(one, code)
			return true
		}
	}
	return false
}

// powerOff ends everything as a power loss does: the runtime finds its
// containers ended, with the end of an earlier run, and damaged ones if any was
// being written.
func (c *containers) powerOff(damages func(resources.ReplicaID) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, one := range c.all {
		if one.Running {
			c.happens(label(one.replica) + " ends with the power")
		}
		one.Running = false
		if damages(resources.ReplicaID(id)) {
			one.Container = resources.Container{ID: id, Replica: resources.ReplicaID(id), Damaged: true}
		}
	}
}

// replicas lists what there is, running or not, sorted.
func (c *containers) replicas() []container {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []container
	for _, one := range c.all {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b container) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (c *containers) fail(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &f)
}

// slowest is how long an agent waits at most before it tries again what has failed.
const slowest = time.Minute

// faulty is true while a fault may yet be met, or a step that met one may not have
// been tried again.
func (c *containers) faulty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.meeting > 0 || time.Since(c.metLast) <= slowest || slices.ContainsFunc(c.faults, func(f *fault) bool { return f.times != 0 })
}

// met counts the steps that meet a fault now.
func (c *containers) met(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meeting += more
	c.metLast = time.Now()
}

func (c *containers) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

func (c *containers) setClock(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = ahead
}

// label names a replica for people, without its random suffix: its revision
// follows from the second one on.
func label(r resources.Replica) string {
	text := fmt.Sprintf("%s.%d", r.Service, r.Slot)
	if r.Revision > 1 {
		text += fmt.Sprintf("/%d", r.Revision)
	}
	return text
}
