package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/resources"
)

// fakeNetwork keeps what was applied.
type fakeNetwork struct {
	mu      sync.Mutex // guards all below
	applied []resources.NodeNetwork
	err     error
	removed bool
	// obstacle is in the way, and said what was said of it.
	obstacle string
	said     []string
}

func (f *fakeNetwork) Obstacle(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.obstacle, nil
}

func (f *fakeNetwork) say(obstacle string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, obstacle)
}

func (f *fakeNetwork) Overlay() resources.NodeOverlay { return resources.NodeOverlay{PublicKey: "key"} }

func (f *fakeNetwork) Apply(_ context.Context, n resources.NodeNetwork) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = append(f.applied, n)
	return f.err
}

func (f *fakeNetwork) Remove(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = true
	return nil
}

func (f *fakeNetwork) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeNetwork) last() resources.NodeNetwork {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.applied) == 0 {
		return resources.NodeNetwork{}
	}
	return f.applied[len(f.applied)-1]
}

// mapOf is a map of one network.
func mapOf(revision int64, network string) resources.NetworkMap {
	return resources.NetworkMap{Revision: revision, Networks: []resources.MappedNetwork{{Name: network, Subnet: netip.MustParsePrefix("10.40.32.0/24")}}}
}

// joined is a replica with an address.
func joined() resources.Replica {
	r := replica(resources.RestartAlways)
	r.Addresses = []resources.NetworkAddress{{Network: "default", Address: netip.MustParseAddr("10.40.32.2")}}
	r.Template.Ports = []resources.Port{{Target: 80, Mode: resources.PortHost}, {Target: 81, Mode: resources.PortCluster}}
	return r
}

// connected starts a loop whose node can be on networks.
func connected(t *testing.T, runtime *fakeRuntime, network *fakeNetwork) *loop {
	l := newLoop(runtime, slog.New(slog.DiscardHandler))
	l.networks = newNetworks(network, network.say, l.log, l.news)
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if err := l.run(ctx); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() { l.networks.run(ctx) })
	t.Cleanup(func() { cancel(); both.Wait() })
	return l
}

var addressesCompared = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestAReplicaStartsOnceItsNetworksAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime, network := newFake(), &fakeNetwork{}
		l := connected(t, runtime, network)
		l.assign(resources.Assignment{Replicas: []resources.Replica{joined()}})
		advance(time.Second)
		if slices.Contains(runtime.calls, "create") {
			t.Errorf("before the node knows of the network: %v", runtime.calls)
		}
		l.networks.follow(mapOf(3, "other"))
		advance(time.Second)
		l.networks.follow(mapOf(4, "default"))
		advance(time.Millisecond)
		expect(t, l, resources.ReplicaRunning)
		want := []resources.LocalReplica{{ID: "web-0-x", Addresses: joined().Addresses, Ports: []resources.Port{{Target: 80, Mode: resources.PortHost}}}}
		if diff := cmp.Diff(want, network.last().Replicas, addressesCompared); diff != "" {
			t.Errorf("replicas of the node (-want +got):\n%s", diff)
		}
		if got := l.networks.revision(); got != 4 {
			t.Errorf("revision %d was applied, want 4", got)
		}
		// It keeps its namespace until nothing is left of it.
		r := joined()
		r.Wanted = false
		l.assign(resources.Assignment{Replicas: []resources.Replica{r}})
		advance(time.Second)
		expect(t, l, resources.ReplicaGone)
		if left := network.last().Replicas; len(left) != 0 {
			t.Errorf("left on the networks: %v", left)
		}
	})
}

func TestWhyAReplicaHasNoNetworkIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime, network := newFake(), &fakeNetwork{}
		network.fail(errors.New("nft: no such table"))
		l := connected(t, runtime, network)
		l.networks.follow(mapOf(4, "default"))
		l.assign(resources.Assignment{Replicas: []resources.Replica{joined()}})
		advance(networkPatience + time.Second)
		s := l.statuses()[0]
		if want := "join the replica's networks: nft: no such table"; s.Message != want || s.Failures == 0 {
			t.Errorf("the status says %q, want %q", s.Message, want)
		}
		// What failed is tried again, though nothing has changed.
		network.fail(nil)
		advance(5 * time.Second)
		expect(t, l, resources.ReplicaRunning)
	})
}

func TestANodeWithoutNetworksSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, newFake(), joined())
		advance(time.Millisecond)
		if s := l.statuses()[0]; s.Message != "join the replica's networks: this node can't be on any" {
			t.Errorf("the status says %q", s.Message)
		}
	})
}

// A replica that has to stop runs until no node sends it connections any more,
// and not for ever where some node does not answer.
func TestAReplicaLeavesTheRotationFirst(t *testing.T) {
	for _, c := range []struct {
		name string
		told time.Duration // when it has left the rotation
		want time.Duration // when it stops
	}{
		{"at once", 0, 0},
		{"after a moment", time.Second, time.Second},
		{"never", time.Hour, leavePatience},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runtime := newFake()
				l := run(t, runtime, replica(resources.RestartAlways))
				r := replica(resources.RestartAlways)
				r.Wanted = false
				unwanted := resources.Assignment{Replicas: []resources.Replica{r}}
				began := time.Now()
				if c.told > 0 {
					l.assign(resources.Assignment{Replicas: unwanted.Replicas, Leaving: []resources.ReplicaID{r.ID}})
				}
				go func() {
					time.Sleep(c.told)
					l.assign(unwanted)
				}()
				for !slices.Contains(runtime.calls, "stop") {
					advance(100 * time.Millisecond)
					if time.Since(began) < c.want && states(l)[0] != resources.ReplicaStopping {
						t.Fatalf("it is %v while it leaves", states(l))
					}
				}
				if took := time.Since(began); took < c.want || took > c.want+200*time.Millisecond {
					t.Errorf("it stopped after %s, want %s", took, c.want)
				}
				advance(2 * time.Hour)
			})
		})
	}
}

// An obstacle is told once the node is on networks, and once it is gone.
func TestAnObstacleIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &fakeNetwork{obstacle: "in the way"}
		l := connected(t, newFake(), network)
		l.assign(resources.Assignment{})
		advance(2 * obstacleInterval)
		l.networks.follow(mapOf(4, "default"))
		advance(time.Second)
		network.mu.Lock()
		network.obstacle = ""
		network.mu.Unlock()
		advance(obstacleInterval)
		if diff := cmp.Diff([]string{"in the way", ""}, network.said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

func TestANodeThatLeavesHasNoNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &fakeNetwork{}
		l := connected(t, newFake(), network)
		l.networks.follow(mapOf(4, "default"))
		l.assign(resources.Assignment{})
		advance(time.Second)
		if err := l.networks.leave(t.Context()); err != nil || !network.removed {
			t.Errorf("removed is %v, %v", network.removed, err)
		}
		count := len(network.applied)
		l.assign(resources.Assignment{})
		advance(time.Minute)
		if len(network.applied) != count {
			t.Error("what was removed came back")
		}
	})
}
