package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/controlplane/dataplane/rules"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/e2e"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/podmantest"
	"github.com/skerry-io/skerry/test/testbed"
)

// The measurements of networks, on hosts of the test bed:
//
//	rollout          requests that fail while all replicas of a service are
//	                 replaced, of at least 10,000: none may
//	vip-throughput   a transfer by a virtual IP, against the container's address:
//	                 1/0.95 of the time
//	vip-latency      the median of a request and its answer, likewise
//	vip-latency-p99  of the same requests
//	names            from a replica that is ready to every host's answer with its
//	                 address, against 1 s
//	wireguard        a transfer between hosts, against the hosts' own network
//	vxlan            the same without encryption
//	change           the packet filter follows one of 5,000 replicas of 500
//	                 services, against 200 ms
var networks = []bench{
	{"network/rollout", 0.5, networkRollout},
	{"network/vip-throughput", 1 / 0.95, vipThroughput},
	{"network/vip-latency", 1.1, vipLatency(0.5)},
	{"network/vip-latency-p99", 0, vipLatency(0.99)},
	{"network/names", 1, networkNames},
	{"network/wireguard", 0, tunnelThroughput(resources.EncryptionWireGuard)},
	{"network/vxlan", 0, tunnelThroughput(resources.EncryptionNone)},
	{"network/change", 1, networkChange},
}

const (
	networkPatience = 5 * time.Minute
	networkTurns    = 10
	transferMiB     = 256
	latencyRequests = 2000
	rolloutRequests = 10_000
	rolloutClients  = 4
	changeGoal      = 200 * time.Millisecond
	namesGoal       = time.Second
)

// networkService is a service that is spread over the hosts.
const networkService = `
  networks   = [skerry_network.bench.name]
  replicas   = %d
  resources  = { cpu = "%dm", memory = "64MiB" }
  stop_grace = "5s"
}
resource "skerry_network" "bench" {
  cluster    = skerry_cluster.home.endpoint
  name       = "bench"
  encryption = %q
`

// connected is a bed with two services on a network: one that is asked, and one
// in whose place the clients are.
type connected struct {
	*testbed.Bed
	control          *client.Server
	service, clients resources.ServiceStatus
}

func connect(t *tb, hosts, replicas int, encryption string) connected {
	bin, err := filepath.Abs("build/bin")
	t.must("find the programs", err)
	bed := testbed.New(t, filepath.Join(bin, "skerry"), hosts)
	archive := filepath.Join(t.TempDir(), "web.tar")
	t.must("build the image", images.Write(archive, "1", runtime.GOARCH))
	cpu := 500 * runtime.NumCPU() / replicas
	tf := e2e.NewTerraform(t, bin, testbed.Configuration(bed.Hosts[:1], bed.Hosts[1:], archive,
		fmt.Sprintf(networkService, replicas, cpu, encryption)))
	tf.Apply(t)
	control := testbed.Control(t, bed.Hosts[0])
	service, err := control.Service(t.Context(), "web")
	t.must("read the service", err)
	c := connected{Bed: bed, control: control, service: service}
	clients := service.Service
	clients.Name, clients.Replicas, clients.Resources.CPU = "clients", hosts, 10
	clients.Placement = &resources.Placement{MaxReplicasPerNode: 1}
	c.clients = c.run(t, clients)
	return c
}

// run returns once all replicas of a service run in its latest revision, and
// nothing of an earlier one does.
func (c connected) run(t *tb, service resources.Service) resources.ServiceStatus {
	put, err := c.control.PutService(t.Context(), service)
	t.must("run a service", err)
	var last resources.ServiceStatus
	t.must("wait for the service", c.control.WatchService(t.Context(), service.Name, func(s resources.ServiceStatus) (bool, error) {
		if s.State == resources.ServiceFailed {
			return false, fmt.Errorf("service %s: %s", service.Name, s.Message)
		}
		last = s
		return s.Revision < put.Revision || s.State != resources.ServiceRunning || len(s.Replicas) != service.Replicas, nil
	}))
	return last
}

// client is a place from which the service is asked, on the host of a replica of
// it, or on another one.
func (c connected) client(t *tb, beside bool) testbed.Replica {
	i := slices.IndexFunc(c.clients.Replicas, func(r resources.ReplicaSummary) bool {
		return (r.Node == c.service.Replicas[0].Node) == beside
	})
	return c.place(t, c.clients.Replicas[i])
}

// place is that of a replica.
func (c connected) place(t *tb, r resources.ReplicaSummary) testbed.Replica {
	h := slices.IndexFunc(c.Hosts, func(h *testbed.Host) bool { return h.Node(t) == r.Node })
	return c.Hosts[h].Replica(r.ID)
}

// direct is the address of the first replica, and virtual that of the service.
func (c connected) direct() string  { return reached(c.service.Replicas[0].Addresses[0].Address) }
func (c connected) virtual() string { return reached(c.service.VirtualIPs[0].Address) }

func reached(address netip.Addr) string { return netip.AddrPortFrom(address, 8080).String() }

// transfer says how long a transfer takes to a client at a place.
func transfer(t *tb, from testbed.Replica, address string) time.Duration {
	begin := time.Now()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/bytes?mib=%d", address, transferMiB), nil)
	t.must("make a request", err)
	response, err := from.HTTP().Do(request)
	t.must("transfer", err)
	defer response.Body.Close() //nolint:errcheck // it was read
	n, err := io.Copy(io.Discard, response.Body)
	t.must("transfer", err)
	if n != transferMiB<<20 {
		t.Fatalf("%d bytes came, of %d MiB", n, transferMiB)
	}
	return time.Since(begin)
}

// vipThroughput is measured within one host, where nothing but the virtual IP
// makes a difference. The replica is its service's only one, so that both ways
// end at the same.
func vipThroughput(ctx context.Context, notes io.Writer) (comparison, error) {
	return onNetwork(ctx, func(t *tb, c *comparison) { //nolint:contextcheck // what was started is removed whatever happens
		one := connect(t, 1, 1, resources.EncryptionWireGuard)
		from := one.client(t, true)
		for turn := range networkTurns {
			c.add(transfer(t, from, one.virtual()), transfer(t, from, one.direct()))
			fmt.Fprintf(notes, "  %d: virtual IP %.3f s, address %.3f s\n", turn+1, c.ours[turn], c.against[turn])
		}
	})
}

// vipLatency is a quantile of the time between a request and its answer, on a
// connection that is there.
func vipLatency(quantile float64) func(context.Context, io.Writer) (comparison, error) {
	return func(ctx context.Context, notes io.Writer) (comparison, error) {
		return onNetwork(ctx, func(t *tb, c *comparison) { //nolint:contextcheck // what was started is removed whatever happens
			c.unit = "µs"
			one := connect(t, 1, 1, resources.EncryptionWireGuard)
			from := one.client(t, true)
			for turn := range networkTurns {
				c.ours = append(c.ours, latency(t, from, one.virtual(), quantile))
				c.against = append(c.against, latency(t, from, one.direct(), quantile))
				fmt.Fprintf(notes, "  %d: virtual IP %.1f µs, address %.1f µs\n", turn+1, c.ours[turn], c.against[turn])
			}
		})
	}
}

// latency is in microseconds.
func latency(t *tb, from testbed.Replica, address string, quantile float64) float64 {
	web := &http.Client{Transport: &http.Transport{DialContext: from.Dial}}
	defer web.CloseIdleConnections()
	var all []time.Duration
	for range latencyRequests {
		begin := time.Now()
		t.must("ask", ask(t.Context(), web, "http://"+address+"/client"))
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return float64(all[int(quantile*float64(len(all)))]) / float64(time.Microsecond)
}

func ask(ctx context.Context, web *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := web.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// tunnelThroughput is measured between the replicas on two hosts, against the
// hosts themselves.
func tunnelThroughput(encryption string) func(context.Context, io.Writer) (comparison, error) {
	return func(ctx context.Context, notes io.Writer) (comparison, error) {
		return onNetwork(ctx, func(t *tb, c *comparison) { //nolint:contextcheck // what was started is removed whatever happens
			two := connect(t, 2, 1, encryption)
			from, plain := two.client(t, false), serveBytes(t, two.Hosts[1])
			for turn := range networkTurns {
				c.add(transfer(t, from, two.direct()), transfer(t, two.Hosts[0].On(), plain))
				fmt.Fprintf(notes, "  %d: %s %.3f s, hosts %.3f s\n", turn+1, encryption, c.ours[turn], c.against[turn])
			}
		})
	}
}

// serveBytes serves what the test image does, on the host itself.
func serveBytes(t *tb, h *testbed.Host) string {
	listener := h.Podman.Listen(t, net.JoinHostPort("0.0.0.0", "8080"))
	block := make([]byte, 1<<20)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range transferMiB {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})}
	go server.Serve(listener)            //nolint:errcheck // it ends with the measurement
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // it ends
	return net.JoinHostPort(testbed.Address(1), "8080")
}

// networkRollout asks a service without a pause while its replicas are replaced,
// again until there were enough requests.
func networkRollout(ctx context.Context, notes io.Writer) (comparison, error) {
	c := comparison{unit: "requests"}
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	err := withTB(ctx, func(t *tb) { //nolint:contextcheck // what was started is removed whatever happens
		three := connect(t, 3, 6, resources.EncryptionWireGuard)
		var asked, failed atomic.Int64
		asking, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range rolloutClients {
			clients.Go(func() {
				web := three.place(t, three.clients.Replicas[i%3]).HTTP()
				web.Timeout = 5 * time.Second
				for asking.Err() == nil {
					if err := ask(asking, web, "http://"+three.virtual()+"/"); err != nil && asking.Err() == nil {
						failed.Add(1)
						fmt.Fprintf(notes, "  failed: %v\n", err)
					}
					asked.Add(1)
				}
			})
		}
		for turn := 0; asked.Load() < rolloutRequests || turn < 2; turn++ {
			web := three.service.Service
			web.Env = map[string]string{"TURN": fmt.Sprint(turn)}
			three.run(t, web)
		}
		stop()
		clients.Wait()
		fmt.Fprintf(notes, "  %d of %d requests failed\n", failed.Load(), asked.Load())
		c.ours, c.against = []float64{float64(failed.Load())}, []float64{1}
	})
	return c, err
}

// networkNames adds a replica, and takes it away again.
func networkNames(ctx context.Context, notes io.Writer) (comparison, error) {
	return onNetwork(ctx, func(t *tb, c *comparison) { //nolint:contextcheck // what was started is removed whatever happens
		three := connect(t, 3, 3, resources.EncryptionWireGuard)
		more := three.service.Service
		more.Replicas++
		for turn := range networkTurns / 2 {
			three.service = three.run(t, more)
			c.add(three.awaitNames(t), namesGoal)
			fmt.Fprintf(notes, "  %d: %.3f s\n", turn+1, c.ours[turn])
			fewer := more
			fewer.Replicas--
			three.run(t, fewer)
		}
	})
}

// awaitNames says how long it takes until every host answers with the addresses of
// all replicas.
func (c connected) awaitNames(t *tb) time.Duration {
	var want []netip.Addr
	for _, r := range c.service.Replicas {
		want = append(want, r.Addresses[0].Address)
	}
	slices.SortFunc(want, netip.Addr.Compare)
	begin := time.Now()
	for _, r := range c.clients.Replicas {
		for place := c.place(t, r); ; {
			got, err := place.Lookup(t.Context(), "replicas.web")
			if err == nil && slices.Equal(got, want) {
				break
			}
			if time.Since(begin) > networkPatience {
				t.Fatalf("a host answers with %v, want %v: %v", got, want, err)
			}
		}
	}
	return time.Since(begin)
}

func onNetwork(ctx context.Context, f func(*tb, *comparison)) (comparison, error) {
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	var c comparison
	err := withTB(ctx, func(t *tb) { f(t, &c) })
	return c, err
}

// networkChange measures what a node does when one replica of many has become
// ready, or is ready no more.
func networkChange(ctx context.Context, _ io.Writer) (comparison, error) {
	return onNetwork(ctx, func(t *tb, c *comparison) {
		podman := podmantest.StartService(t) // for its network namespace
		changed := manyServices()
		err := podmantest.InNamespace("/run/netns/"+podman.Namespace, func() error {
			var firewall rules.Firewall
			for turn := range networkTurns + 1 {
				one := &changed.Map.Services[0].Replicas[0]
				one.Ready = !one.Ready
				begin := time.Now()
				if err := firewall.Apply(t.Context(), changed); err != nil {
					return err
				}
				if turn > 0 { // the first one makes everything
					c.add(time.Since(begin), changeGoal)
				}
			}
			return nil
		})
		t.must("apply a change", err)
	})
}

// manyServices is what a node knows of 500 services with ten replicas each.
func manyServices() resources.NodeNetwork {
	network := resources.MappedNetwork{Name: "bench", CIDR: netip.MustParsePrefix("10.64.0.0/12"), Subnet: netip.MustParsePrefix("10.70.0.0/24")}
	n := resources.NodeNetwork{Map: resources.NetworkMap{Networks: []resources.MappedNetwork{network}}}
	vip, address := netip.MustParseAddr("10.64.0.1"), netip.MustParseAddr("10.71.0.2")
	for i := range 500 {
		s := resources.MappedService{Name: fmt.Sprintf("service-%03d", i), Network: network.Name, VirtualIP: vip}
		for slot := range 10 {
			id := resources.ReplicaID(fmt.Sprintf("%s-%d-bench", s.Name, slot))
			s.Replicas = append(s.Replicas, resources.MappedReplica{ID: id, Slot: slot, Address: address, Ready: true})
			address = address.Next()
		}
		n.Map.Services = append(n.Map.Services, s)
		vip = vip.Next()
	}
	return n
}
