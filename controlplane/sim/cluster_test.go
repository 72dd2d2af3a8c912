package sim

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// cluster is a whole cluster, and its user.
type cluster struct {
	*client.Server // as the user has it
	dir            string
	config         resources.ClusterConfig
	log            *slog.Logger
	network        *network
	members        *members
	election       *election
	user           *machine
	began          time.Time

	mu       sync.Mutex // guards all below
	machines map[string]*machine
	seen     []string // what has happened on the nodes and was not shown yet
	// load is what is asked of services, in millicores.
	load map[string]float64
}

var verbose = flag.Bool("log", false, "write what servers and agents log to stderr")

// simulate runs a test in a bubble, with a cluster that has no machines yet. The
// same seed gives the same random IDs.
func simulate(t *testing.T, seed uint64, test func(t *testing.T, c *cluster)) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(dir, log)
		defer c.close()
		test(t, c)
	})
}

func newCluster(dir string, log *slog.Logger) *cluster {
	c := &cluster{
		dir: dir, log: log, network: newNetwork(), machines: map[string]*machine{}, load: map[string]float64{}, began: time.Now(),
		config: resources.ClusterConfig{ID: "sim", Name: "sim"},
	}
	c.members = &members{network: c.network, servers: c.servers, changed: make(chan struct{})}
	c.election = &election{members: c.members, observers: map[chan string]*machine{}}
	c.user = &machine{name: "user", cluster: c, up: true, running: make(chan struct{})}
	close(c.user.running)
	c.Server = client.NewDialer(client.Options{}).Member(c.user.way)
	return c
}

func (c *cluster) start(t *testing.T, servers int) {
	t.Helper()
	for i := range servers {
		c.newMachine(fmt.Sprintf("server-%d", i+1))
	}
	var record resources.ClusterRecord
	var changes []store.Change
	for _, m := range c.servers() {
		record.Servers, record.Nodes = append(record.Servers, m.id), append(record.Nodes, m.id)
		changes = append(changes, store.PutServer(m.address()))
	}
	if err := c.commit(append(changes, store.PutCluster(record))...); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.servers() {
		m.boot()
		synctest.Wait() // the first of them leads
	}
}

// close ends everything, so that the bubble can end.
func (c *cluster) close() {
	for _, m := range append(c.nodes(), c.servers()...) {
		m.kill()
	}
	c.user.mu.Lock()
	c.user.up = false
	c.user.mu.Unlock()
	c.network.close()
	// A connection that nobody waits for any more may be under way still.
	<-time.After(time.Minute)
}

// machinesOf lists machines, sorted by name: servers, or nodes.
func (c *cluster) machinesOf(nodes bool) []*machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*machine
	for _, name := range slices.Sorted(maps.Keys(c.machines)) {
		if m := c.machines[name]; (m.containers != nil) == nodes {
			all = append(all, m)
		}
	}
	return all
}

// demands says what is asked of a service from now on, in millicores.
func (c *cluster) demands(service string, millicores float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load[service] = millicores
}

// demand is what is asked of each running replica of a service.
func (c *cluster) demand(service string) float64 {
	count := 0
	for _, m := range c.nodes() {
		count += m.containers.count(service)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load[service] / float64(max(count, 1))
}

// machine finds a machine by its name, or returns nil.
func (c *cluster) machine(name string) *machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machines[name]
}

func (c *cluster) servers() []*machine { return c.machinesOf(false) }

func (c *cluster) nodes() []*machine { return c.machinesOf(true) }

func (c *cluster) addresses() []resources.ServerAddress {
	var all []resources.ServerAddress
	for _, m := range c.servers() {
		all = append(all, m.address())
	}
	return all
}

// fault tells the store and the election that something has changed.
func (c *cluster) fault() {
	c.members.fault()
	c.election.review()
}

// state is what the store holds, whoever reaches it.
func (c *cluster) state() *store.State {
	state, err := c.members.Load(context.Background())
	if err != nil {
		panic(err) // it never fails
	}
	return state
}

func (c *cluster) commit(changes ...store.Change) error {
	return c.members.Commit(context.Background(), c.state(), changes)
}

// admit lets a node in, for the first time or again.
func (c *cluster) admit(id resources.NodeID) error {
	for {
		record := c.state().Cluster
		record.Nodes = append(slices.Clone(record.Nodes), id)
		if err := c.commit(store.PutCluster(record)); !errors.Is(err, store.ErrStale) {
			return err
		}
	}
}

// sever cuts a machine off from all others, or heals that.
func (c *cluster) sever(m *machine, cut bool) {
	c.network.change(func() { c.network.cut[m] = cut })
	c.fault()
}

// separate cuts two machines off from each other, or heals that.
func (c *cluster) separate(a, b *machine, cut bool) {
	c.network.change(func() { c.network.pairs[[2]*machine{a, b}] = cut })
	c.fault()
}

// saw keeps what has happened on a node.
func (c *cluster) saw(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, what)
}

// happened returns what has happened on the nodes since the last call, sorted:
// what happens in one moment has no order.
func (c *cluster) happened() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.seen
	c.seen = nil
	slices.Sort(all)
	return all
}

// A user tries a call twice, each time for so long.
const (
	userTries    = 2
	userPatience = 12 * time.Second
)

// ask calls the API as a user does.
func (c *cluster) ask(call func(ctx context.Context) error) (err error) {
	for range userTries {
		ctx, cancel := context.WithTimeout(context.Background(), userPatience)
		err = call(ctx)
		cancel()
		synctest.Wait()
		if !client.IsUnreachable(err) {
			return err
		}
	}
	return err
}

// peek reads from the server that leads, past the network. It is false where
// none does.
func (c *cluster) peek(path string, value any) bool {
	m := c.election.who()
	if m == nil || m.isStopped() {
		return false
	}
	m.mu.Lock()
	handler := m.handler
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
	return recorder.Code == http.StatusOK && json.Unmarshal(recorder.Body.Bytes(), value) == nil
}
