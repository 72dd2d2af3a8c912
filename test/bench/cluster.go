package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/e2e"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

const (
	clusterPatience = 5 * time.Minute
	killedTurns     = 3
	// killedGoal is how long it may take until a killed node's replicas are ready
	// elsewhere. Swarm takes 15 to 20 s, Nomad 20 to 30 s.
	killedGoal = 15 * time.Second
	// agentGoal and serverGoal bound what is resident.
	agentGoal, agentReplicas                = 40 * resources.MiB, 50
	serverGoal, serverNodes, serverReplicas = 150 * resources.MiB, 100, 1000
)

// startCluster starts a cluster of one server and workers, which run the
// replicas of a service.
func startCluster(t *tb, workers, replicas int, cpu resources.MilliCPU) (*testbed.Bed, *client.Server) {
	bin, err := filepath.Abs("build/bin")
	t.must("find the programs", err)
	bed := testbed.New(t, filepath.Join(bin, "skerry"), 1+workers)
	archive := filepath.Join(t.TempDir(), "web.tar")
	t.must("build the image", images.Write(archive, "1", runtime.GOARCH))
	tf := e2e.NewTerraform(t, bin, testbed.Configuration(bed.Hosts[:1], bed.Hosts[1:], archive, fmt.Sprintf(`
  replicas  = %d
  resources = { cpu = %q, memory = "16MiB" }
  placement = { constraints = ["node.id != %s"] }`, replicas, cpu, bed.Hosts[0].Node(t))))
	tf.Apply(t)
	return bed, testbed.Control(t, bed.Hosts[0])
}

// nodeKilled measures from a worker's power cut until as many replicas as are
// wanted are ready on the others.
func nodeKilled(ctx context.Context, notes io.Writer) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	var c comparison
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		bed, control := startCluster(t, 3, 6, resources.DefaultCPU)
		for turn := range killedTurns {
			worker := bed.Hosts[1+turn%3]
			begin := time.Now()
			worker.PowerOff(t)
			awaitReady(t, control, func(r resources.ReplicaSummary) bool { return r.Node != worker.Node(t) })
			ours := time.Since(begin)
			c.add(ours, killedGoal)
			fmt.Fprintf(notes, "  %d: ready elsewhere after %.1f s\n", turn+1, ours.Seconds())
			worker.PowerOn(t)
			awaitReady(t, control, func(resources.ReplicaSummary) bool { return true })
		}
	})
	return c, err
}

// awaitReady returns once all replicas of the service are ready, counting those
// that count.
func awaitReady(t *tb, control *client.Server, counts func(resources.ReplicaSummary) bool) {
	t.must("wait for the replicas", control.WatchService(t.Context(), "web", func(s resources.ServiceStatus) (bool, error) {
		ready := 0
		for _, r := range s.Replicas {
			if r.Wanted && r.Status.State == resources.ReplicaRunning && !r.Status.NotReady && counts(r) {
				ready++
			}
		}
		return ready < s.Service.Replicas, nil
	}))
}

// agentMemory measures a worker's agent that runs many replicas.
func agentMemory(ctx context.Context, _ io.Writer) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	c := comparison{unit: "MiB"}
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		bed, _ := startCluster(t, 1, agentReplicas, 10)
		c.ours, c.against = mebibytes(bed.Hosts[1].Memory(t, testbed.Agent)), mebibytes(agentGoal)
	})
	return c, err
}

// serverMemory measures a server with many nodes, whose agents are simulated.
func serverMemory(ctx context.Context, _ io.Writer) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	c := comparison{unit: "MiB"}
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		bed, control := startCluster(t, 0, 0, 10)
		web, err := control.Service(t.Context(), "web")
		t.must("read the service", err)
		agents, stop := context.WithCancel(t.Context())
		group, agents := errgroup.WithContext(agents)
		for i := range serverNodes {
			group.Go(func() error { return simulate(agents, control, i) })
		}
		web.Service.Replicas, web.Service.Update.MaxUnavailable = serverReplicas, resources.Share{Amount: 100, Percent: true, Given: true}
		_, err = control.PutService(t.Context(), web.Service)
		t.must("run the replicas", err)
		awaitReady(t, control, func(resources.ReplicaSummary) bool { return true })
		c.ours, c.against = mebibytes(bed.Hosts[0].Memory(t, testbed.Server)), mebibytes(serverGoal)
		stop()
		if err := group.Wait(); err != nil && t.Context().Err() == nil && agents.Err() == nil {
			t.Fatal(err)
		}
	})
	return c, err
}

func mebibytes(b resources.Bytes) []float64 { return []float64{float64(b) / float64(resources.MiB)} }

// simulate is an agent that says that all it was assigned runs, until ctx ends.
func simulate(ctx context.Context, control *client.Server, number int) error {
	id := resources.NodeID(fmt.Sprintf("%016x", number+1))
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		return err
	}
	if _, err := control.SignCertificate(ctx, id, resources.CertificateRequest{Request: request}); err != nil {
		return err
	}
	has := resources.Capacity{CPU: 16_000, Memory: 64 * resources.GiB, Disk: 100 * resources.GiB}
	node := resources.NodeInfo{
		ID: id, Name: fmt.Sprintf("node-%d", number), Version: "bench", Podman: "5.4.2", Addresses: []string{"10.0.0.1"}, Capacity: has, Allocatable: has,
	}
	if err := control.PutNode(ctx, node); err != nil {
		return err
	}
	assigned := make(chan []resources.Replica)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return control.WatchAssignment(ctx, id, func(a resources.Assignment) {
			select {
			case assigned <- a.Replicas:
			case <-ctx.Done():
			}
		})
	})
	group.Go(func() error { return report(ctx, control, id, assigned) })
	return group.Wait()
}

// report sends the heartbeats of a simulated agent.
func report(ctx context.Context, control *client.Server, id resources.NodeID, assigned <-chan []resources.Replica) error {
	began := time.Now().UTC()
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	statuses := []resources.ReplicaStatus{}
	for {
		if err := control.PutStatus(ctx, id, statuses, 0); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case all := <-assigned:
			statuses = []resources.ReplicaStatus{}
			for _, r := range all {
				status := resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaRunning, StartedAt: began, Address: "10.88.0.2", ContainerID: fmt.Sprintf("%064x", len(statuses))}
				if !r.Wanted {
					status.State = resources.ReplicaGone
				}
				statuses = append(statuses, status)
			}
		}
	}
}
