package sim

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-io/skerry/controlplane/agent"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/server"
	"github.com/skerry-io/skerry/resources"
)

// machine is a computer: with a runtime and an agent where it is a node, or with
// a server.
type machine struct {
	name    string
	id      resources.NodeID
	cluster *cluster
	data    string
	// containers is nil for a machine that is no node.
	containers *containers
	capacity   resources.Capacity

	mu      sync.Mutex // guards all below
	up      bool
	boots   int
	running chan struct{} // closed unless its processes are stopped
	agent   *process
	server  *process
	handler http.Handler // of the server
}

// process is a program that runs.
type process struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func begin(run func(ctx context.Context)) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel, make(chan struct{})}
	go func() {
		defer close(p.ended)
		run(ctx)
	}()
	return p
}

// kill ends a process, if there is one.
func (p *process) kill() {
	if p != nil {
		p.cancel()
		<-p.ended
	}
}

func (m *machine) isUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.up
}

func (m *machine) bootCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

func (m *machine) serves() bool { return m.serving() != nil }

// serving is the server process of the machine, nil where there is none.
func (m *machine) serving() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server
}

func (m *machine) runsAgent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent != nil
}

// gate is closed while the processes of the machine get the processor.
func (m *machine) gate() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running
}

func (m *machine) isStopped() bool {
	select {
	case <-m.gate():
		return false
	default:
		return true
	}
}

// pause stops the processes of the machine as SIGSTOP does.
func (m *machine) pause() {
	m.mu.Lock()
	m.running = make(chan struct{})
	m.mu.Unlock()
	m.cluster.fault()
}

func (m *machine) resume() {
	if m.isStopped() {
		m.mu.Lock()
		close(m.running)
		m.mu.Unlock()
		m.cluster.fault()
	}
}

// boot gives the machine power.
func (m *machine) boot() {
	m.mu.Lock()
	m.up = true
	m.mu.Unlock()
	if m.containers != nil {
		m.startAgent()
	} else {
		m.startServer()
	}
	m.cluster.fault()
}

// powerOff takes the power away. Nobody is told.
func (m *machine) powerOff(damages func(resources.ReplicaID) bool) {
	m.mu.Lock()
	m.up = false
	m.boots++
	m.mu.Unlock()
	m.cluster.network.powerOff(m)
	m.kill()
	if m.containers != nil {
		m.containers.powerOff(damages)
	}
}

// kill ends the processes of the machine.
func (m *machine) kill() {
	m.resume()
	m.mu.Lock()
	agent, server := m.agent, m.server
	m.agent, m.server = nil, nil
	m.mu.Unlock()
	agent.kill()
	server.kill()
	m.cluster.fault()
}

func (m *machine) startAgent() {
	p := begin(func(ctx context.Context) {
		for ctx.Err() == nil {
			if err := m.runAgent(ctx); err != nil && ctx.Err() == nil {
				m.cluster.log.Error("the agent ended", "err", err)
				sleep(ctx, time.Second) //nolint:errcheck // the loop looks
			}
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = p
}

func (m *machine) runAgent(ctx context.Context) error {
	log := m.cluster.log.With("agent", m.name)
	dialer := client.NewDialer(client.Options{Log: log})
	defer dialer.Close()
	a, err := agent.New(agent.Config{
		Runtime: m.containers, Volumes: m.containers, Meter: m.containers, Server: dialer.Member(m.way), ControlPlane: noControlPlane{}, ServerTransport: http.DefaultTransport,
		Data: m.data, Version: "sim", Log: log,
		Machine: func() (agent.Machine, error) {
			return agent.Machine{Capacity: m.capacity, Addresses: []string{m.name}}, nil
		},
	})
	if err != nil {
		return err
	}
	nobody := func(*listener) {}
	return a.Run(ctx, newListener(nobody), newListener(nobody))
}

// noControlPlane is that of nodes that never run a server.
type noControlPlane struct{}

func (noControlPlane) Start(context.Context, resources.ClusterConfig) error {
	return errors.New("this node runs no server")
}
func (noControlPlane) Stop(context.Context) error { return nil }

// serverTimeout is that of package client.
const serverTimeout = 2 * time.Second

// way leads to the servers that the machine knows.
func (m *machine) way() (client.Way, error) {
	w := client.Way{Servers: m.cluster.addresses(), Dial: m.dialServer}
	if m.containers == nil {
		return w, nil
	}
	said, _, err := agent.Cluster(m.data)
	w.Servers = said.Servers
	return w, err
}

func (m *machine) dialServer(ctx context.Context, at resources.ServerAddress) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	return m.cluster.network.dial(ctx, m, m.cluster.machine(at.Host))
}

func (m *machine) startServer() {
	c, ticks := m.cluster, make(chan time.Time)
	s := server.New(server.Config{
		Cluster: c.config, Self: m.address(), Store: member{c.members, m}, Election: ballot{c.election, m}, Images: noImages{},
		Resolve: func(context.Context, string, map[string]server.Access) (string, error) { return "", nil },
		Log:     c.log.With("server", m.name), Dial: m.dialServer, Ticks: ticks,
	})
	at := c.network.listen(m)
	p := begin(func(ctx context.Context) {
		web := &http.Server{Handler: s.Handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
		var running sync.WaitGroup
		running.Go(func() { m.tick(ctx, ticks) })
		running.Go(func() { web.Serve(at) }) //nolint:errcheck // it ends with the process
		s.Run(ctx)                           //nolint:errcheck // it ends with the process
		web.Close()                          //nolint:errcheck // it ends
		running.Wait()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server, m.handler = p, s.Handler()
}

// tick tells the time while the machine's processes run.
func (m *machine) tick(ctx context.Context, ticks chan<- time.Time) {
	for sleep(ctx, server.Pulse) == nil {
		<-m.gate()
		select {
		case ticks <- time.Now():
		case <-ctx.Done():
		}
	}
}

func (m *machine) address() resources.ServerAddress {
	return resources.ServerAddress{Node: m.id, Host: m.name}
}

// noImages is the registry of a cluster that has none.
type noImages struct{}

func (noImages) ServeHTTP(w http.ResponseWriter, _ *http.Request)  { w.WriteHeader(http.StatusNotFound) }
func (noImages) Has(context.Context, string, string) (bool, error) { return false, nil }
func (noImages) Delete(context.Context, string, string) error      { return nil }

// newNode makes a machine that is let into the cluster as a node. It has no
// power yet.
func (c *cluster) newNode(name string, capacity resources.Capacity, labels map[string]string, taints []string) (*machine, error) {
	m := c.newMachine(name)
	m.data, m.containers, m.capacity = filepath.Join(c.dir, name), newContainers(), capacity
	m.containers.happens = func(what string) { c.saw(what + " on " + name) }
	m.containers.demand = c.demand
	if _, err := agent.InitNode(m.data, resources.NodeFile{ID: m.id, Name: name, Labels: labels, Taints: taints}); err != nil {
		return nil, err
	}
	config := c.config
	config.Servers = c.addresses()
	if err := agent.PutCluster(m.data, config); err != nil {
		return nil, err
	}
	return m, c.admit(m.id)
}

func (c *cluster) newMachine(name string) *machine {
	m := &machine{name: name, id: resources.NodeID(name), cluster: c, running: make(chan struct{})}
	close(m.running)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines[name] = m
	return m
}
