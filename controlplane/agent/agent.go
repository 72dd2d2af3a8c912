// Package agent makes one node look as the cluster decided.
//
// Its heart is a loop over the replicas of the node. Events only wake it:
// another assignment, the end of a container, the end of a step, a moment that
// was waited for. It then looks at what the runtime has, and takes for each
// replica the one next step that leads where it should be (see step.go, which
// is pure). Steps of different replicas run side by side; those of one never
// do. The loop works from its last known assignments when no server answers.
//
// Around it: a session with the server, which brings assignments and takes
// reports; the API of the node; and a proxy that leads the node's Podman to
// the cluster's own registry.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/resources"
)

// Runtime runs the containers of a node. Errors whose cause is known are
// *resources.Failure.
type Runtime interface {
	Containers
	// List returns every container that skerry made for this node.
	List(ctx context.Context) ([]resources.Container, error)
	// Pull brings the image to the node as the policy says. digest
	// (sha256:HEX) pins what a tag means; it may be empty. The logins are those of
	// the registries that ask for one.
	Pull(ctx context.Context, image, digest, policy string, logins ...resources.Login) error
	// Exits sends the IDs of containers that ended, until ctx ends. It is the
	// second source: the agent watches the processes itself.
	Exits(ctx context.Context) (<-chan string, error)
	// Version is the runtime's.
	Version(ctx context.Context) (string, error)
}

// Containers is what a runtime does with one container.
type Containers interface {
	// Create makes the container of a replica, or returns the one it has.
	Create(ctx context.Context, r resources.Replica) (id string, err error)
	// Start starts a container, and returns its first process.
	Start(ctx context.Context, id string) (pid int, err error)
	// Stop sends the stop signal, and kills after the grace period.
	Stop(ctx context.Context, id string) error
	// Remove removes a container, running or not. An absent one is no error.
	Remove(ctx context.Context, id string) error
	// Exec runs a command in a running container, and returns its exit code and
	// the beginning of what it wrote. The command is killed when ctx ends.
	Exec(ctx context.Context, id string, command []string) (code int, output string, err error)
	// Logs returns the last lines of a container's output.
	Logs(ctx context.Context, id string, lines int) ([]string, error)
}

// Registries is how a runtime reaches registries.
type Registries interface {
	// PutRegistries makes the runtime reach them so, and all others as it does without
	// skerry.
	PutRegistries(all []resources.AssignedRegistry) error
}

// Console is what people do with containers.
type Console interface {
	// Attach runs a command with the caller's streams, and returns its exit code.
	Attach(ctx context.Context, id string, command resources.Command, streams resources.Streams) (code int, err error)
	// StreamLogs writes what the container wrote, and what it still writes.
	StreamLogs(ctx context.Context, id string, options resources.LogOptions, w io.Writer) error
}

// ControlPlane starts and stops the control plane of this machine.
type ControlPlane interface {
	// Start makes it run for the cluster, now and after a reboot, and returns
	// when its socket answers.
	Start(ctx context.Context, cluster resources.ClusterConfig) error
	// Stop ends it and removes its data.
	Stop(ctx context.Context) error
}

// Server is the part of the server's API that an agent calls.
type Server interface {
	Membership
	PutNode(ctx context.Context, node resources.NodeInfo) error
	Pulse(ctx context.Context, id resources.NodeID) error
	PutStatus(ctx context.Context, id resources.NodeID, statuses []resources.ReplicaStatus, applied int64) error
	PutSamples(ctx context.Context, id resources.NodeID, samples []resources.Sample) error
	WatchAssignment(ctx context.Context, id resources.NodeID, see func(resources.Assignment)) error
	WatchNetwork(ctx context.Context, id resources.NodeID, see func(resources.NetworkMap)) error
	VolumeRemoved(ctx context.Context, id resources.NodeID, name string) error
}

// Membership is how a node stays in its cluster, and leaves it.
type Membership interface {
	SignCertificate(ctx context.Context, id resources.NodeID, request resources.CertificateRequest) (resources.Join, error)
	PutAvailability(ctx context.Context, id resources.NodeID, a resources.Availability) error
	WatchNode(ctx context.Context, id resources.NodeID, see func(resources.NodeStatus) (more bool, err error)) error
	LeaveServers(ctx context.Context, id resources.NodeID) error
	WatchCluster(ctx context.Context, see func(resources.ClusterStatus) (more bool, err error)) error
	Stranded(ctx context.Context, id resources.NodeID) ([]resources.Stranded, error)
	LeaveNode(ctx context.Context, id resources.NodeID) error
}

// Config is what an Agent is made of.
type Config struct {
	Runtime Runtime
	Console Console
	// Storage is the runtime's; where it is nil, no image is ever collected.
	Storage Storage
	// Volumes are the runtime's; where they are nil, replicas can't mount any.
	Volumes Volumes
	// Registries are the runtime's; where they are nil, it has settings of its own only.
	Registries Registries
	// Network is nil where the node can't be on the cluster's networks, as
	// without root: its replicas run on the runtime's own.
	Network      Network
	Server       Server
	ControlPlane ControlPlane
	// Skew is how far the clock was ahead of the server's in its last answer,
	// where that is known. It may be nil.
	Skew func() (ahead time.Duration, known bool)
	// ServerTransport leads to the server's socket, for the registry.
	ServerTransport http.RoundTripper
	// Secrets is the directory for the files of replicas that have some. It is made
	// one in memory.
	Secrets string
	// Data is the directory that outlives the VM.
	Data string
	// AuthorizedKeys is the file of the keys that may log in, or empty where
	// the agent does not own one.
	AuthorizedKeys string
	// Servers is where the cluster's servers connect, and show their certificates;
	// nil where no other machine does.
	Servers net.Listener
	// Alone is true where no other node can join.
	Alone bool
	// Meter measures the containers; it asks the kernel unless given.
	Meter Meter
	// Machine describes the machine; MachineOf(Data) unless given.
	Machine func() (Machine, error)
	Version string
	Log     *slog.Logger
}

// Agent is the agent of one node.
type Agent struct {
	Config
	loop *loop
	// membership is held by what changes how the node belongs to its cluster.
	membership sync.Mutex
	// said is what the control plane said last of itself, and is not done yet.
	said chan resources.Assignment

	mu      sync.Mutex // guards all below
	node    resources.NodeFile
	cluster resources.ClusterConfig // zero where the node belongs to none
	left    bool                    // true where the machine is about to go away
	podman  string
	// conditions that hold, by type.
	conditions map[resources.NodeConditionType]resources.NodeCondition
	joined     chan struct{} // closed and renewed when cluster or node changes
}

// New makes the agent of the node whose files are in c.Data.
func New(c Config) (*Agent, error) {
	if c.Machine == nil {
		c.Machine = func() (Machine, error) { return MachineOf(c.Data) }
	}
	if c.Meter == nil {
		c.Meter = newKernelMeter()
	}
	a := &Agent{
		Config: c, joined: make(chan struct{}), said: make(chan resources.Assignment, 1),
		conditions: map[resources.NodeConditionType]resources.NodeCondition{},
	}
	var err error
	if a.node, err = Node(c.Data); err != nil {
		return nil, err
	}
	if err := readFile(a.path(clusterFile), &a.cluster); err != nil && !errors.Is(err, ErrNoFile) {
		return nil, fmt.Errorf("read which cluster this node belongs to: %w", err)
	}
	var known resources.Assignment
	a.loop = newLoop(c.Runtime, c.Log)
	a.loop.contents.dir = c.Secrets
	if c.Network != nil {
		a.loop.networks = newNetworks(c.Network, func(obstacle string) {
			a.setCondition(resources.ForwardDropped, obstacle, time.Now())
		}, c.Log, a.loop.news)
		a.knownNetwork()
	}
	if c.Volumes != nil {
		a.loop.volumes = newVolumes(c.Volumes, a.path(volumesDir), c.Log)
	}
	err = readFile(a.path(assignmentsFile), &known)
	if err != nil && !errors.Is(err, ErrNoFile) {
		c.Log.Warn("the last known assignments can't be read; the server is asked", "err", err)
	}
	a.loop.measures.registry.MustRegister(a.states())
	if err == nil {
		known.Remembered = true
		a.settleRegistries(known)
		a.loop.assign(a.recalled(known))
	}
	return a, nil
}

// Run runs the agent until ctx ends: the loop, the session with the server, the
// API on api, that of the servers, and the registry on registry. It closes the listeners.
func (a *Agent) Run(ctx context.Context, apiSocket, registry net.Listener) error {
	if err := a.writeAuthorizedKeys(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.loop.run(ctx) })
	group.Go(func() error { return a.resume(ctx) })
	if a.loop.networks != nil {
		group.Go(func() error { a.loop.networks.run(ctx); return nil })
	}
	if a.loop.volumes != nil {
		group.Go(func() error { a.loop.volumes.run(ctx, a.volumeRemoved); return nil })
	}
	group.Go(func() error { a.session(ctx); return nil })
	group.Go(func() error { a.sample(ctx); return nil })
	group.Go(func() error { a.followAll(ctx); return nil })
	group.Go(func() error { a.keepCertificate(ctx); return nil })
	group.Go(func() error { a.keepHouse(ctx); return nil })
	group.Go(func() error { return serve(ctx, apiSocket, a.handler()) })
	if a.Servers != nil {
		group.Go(func() error { return serve(ctx, a.Servers, a.serversHandler()) })
	}
	group.Go(func() error { return serve(ctx, registry, a.registryProxy()) })
	return group.Wait()
}

// resume starts the control plane where the data says that the node runs one: a
// new root disk does not know it yet.
func (a *Agent) resume(ctx context.Context) error {
	a.mu.Lock()
	cluster := a.cluster
	a.mu.Unlock()
	if cluster.Server == nil {
		return nil
	}
	if err := a.ControlPlane.Start(ctx, cluster); err != nil && ctx.Err() == nil {
		return fmt.Errorf("start the control plane of cluster %s: %w", cluster.Name, err)
	}
	return nil
}

// serve serves until ctx ends. Its own watches end with ctx.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // it ends
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// RegistryAddress is where an agent serves the cluster's registry to the Podman
// of its node.
const RegistryAddress = "127.0.0.1:5055"
