package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// networksConfiguration is two networks and ten services on them: front alone,
// back alone, and both.
const networksConfiguration = `
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%s]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %q
}
resource "skerry_network" "front" {
  cluster = skerry_cluster.home.endpoint
  name    = "front"
}
resource "skerry_network" "back" {
  cluster    = skerry_cluster.home.endpoint
  name       = "back"
  cidr       = %q
  internal   = true
  encryption = "none"
}
locals {
  front = [skerry_network.front.name]
  back  = [skerry_network.back.name]
}
resource "skerry_service" "all" {
  for_each = {
    f0 = local.front, f1 = local.front, f2 = local.front, f3 = local.front
    b0 = local.back, b1 = local.back, b2 = local.back
    m0 = concat(local.front, local.back), m1 = concat(local.front, local.back), m2 = concat(local.back, local.front)
  }
  cluster    = skerry_cluster.home.endpoint
  name       = each.key
  image      = skerry_image.web.reference
  networks   = each.value
  replicas   = 2
  resources  = { cpu = "100m", memory = "16MiB" }
  stop_grace = "1s"
  ports      = each.key == "m0" ? [{ target = 8080, published = 8088 }, { target = 8080, published = 8088, protocol = "udp" }] : null
}
`

// networked is a bed whose services are on networks.
type networked struct {
	faulty
	// outside is a machine that is not in the cluster, and serves at an address.
	outside testbed.Replica
	address string
}

// TestNetworks lets names, virtual IPs and addresses stand up to random changes:
// in the end each replica finds and reaches just what it may.
func TestNetworks(t *testing.T) {
	t.Parallel()
	bed := testbed.New(t, skerry(), 3)
	archive := images.Archive(t)
	configure := func(back string) string {
		return fmt.Sprintf(networksConfiguration, testbed.Endpoints(bed.Hosts...), archive, back)
	}
	tf := NewTerraform(t, bin, configure("10.99.0.0/20"))
	n := &networked{faulty: faulty{Bed: bed, control: testbed.Control(t, bed.Hosts...), gone: map[*testbed.Host]bool{}}}
	n.apart(t, tf)
	tf.Apply(t)
	tf.Settled(t)
	n.serveOutside(t)
	n.holds(t)
	n.rollOut(t)
	n.churn(t)
	n.settles(t)
	n.holds(t)
	n.walledIn(t, tf)
	tf.Configure(t, configure("10.98.0.0/20"))
	if said := tf.ApplyFails(t); !strings.Contains(said, "b0, b1, b2, m0, m1, m2") {
		t.Errorf("a network in use gets another range, or nobody says whose: %s", said)
	}
	tf.Configure(t, configure("10.99.0.0/20"))
	tf.Destroy(t)
	n.nothingLeft(t)
}

// walledIn lets a plan warn of a host whose packet filter drops what it forwards,
// and says the way out.
func (n *networked) walledIn(t *testing.T, tf *Terraform) {
	t.Helper()
	h := n.Hosts[1]
	filter := func(words string) {
		t.Helper()
		args := append([]string{"--net=/run/netns/" + h.Podman.Namespace, "nft"}, words)
		if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", words, err, out)
		}
	}
	filter("add table inet wall; add chain inet wall forward { type filter hook forward priority filter; policy drop; }")
	h.Kill(t, testbed.Agent)
	eventually(t, "the cluster hears of the packet filter", func() (string, bool) {
		nodes, err := n.control.Nodes(t.Context())
		return fmt.Sprint(nodes, err), slices.ContainsFunc(nodes, func(s resources.NodeStatus) bool { return s.Has(resources.ForwardDropped) })
	})
	said := strings.Join(strings.Fields(tf.Run(t, "plan", "-no-color")), " ")
	for _, want := range []string{"Warning", "ForwardDropped", "inet wall forward", "insert rule inet wall forward"} {
		if !strings.Contains(said, want) {
			t.Errorf("the plan does not say %q: %s", want, said)
		}
	}
	filter("delete table inet wall")
}

// rollOut replaces the replicas of a service while another one's ask it, and
// expects that each request is answered.
func (n *networked) rollOut(t *testing.T) {
	t.Helper()
	services := map[string]resources.ServiceStatus{}
	for _, name := range []string{"f0", "f1"} {
		s, err := n.control.Service(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		services[name] = s
	}
	address := netip.AddrPortFrom(services["f0"].VirtualIPs[0].Address, 8080).String()
	ctx, stop := context.WithCancel(t.Context())
	var asked, failed atomic.Int64
	var clients sync.WaitGroup
	for _, r := range services["f1"].Replicas {
		v := n.at(t, services["f1"].Service, r)
		clients.Go(func() {
			for ctx.Err() == nil {
				if _, err := v.get(ctx, address); err != nil && ctx.Err() == nil {
					failed.Add(1)
					t.Logf("a request failed: %v", err)
				}
				asked.Add(1)
			}
		})
	}
	next := services["f0"].Service
	next.Env = map[string]string{"GREETING": "again"}
	if _, err := n.control.PutService(t.Context(), next); err != nil {
		t.Error(err)
	}
	n.settles(t)
	stop()
	clients.Wait()
	t.Logf("%d of %d requests failed in a rollout", failed.Load(), asked.Load())
	if failed.Load() > 0 || asked.Load() == 0 {
		t.Errorf("%d of %d requests failed in a rollout", failed.Load(), asked.Load())
	}
}

// nothingLeft finds nothing of the networks on the hosts.
func (n *networked) nothingLeft(t *testing.T) {
	t.Helper()
	for _, h := range n.Hosts {
		for _, command := range []string{"ip -o link", "ip -o addr show dev lo", "ip route", "nft list ruleset", "ls " + h.Dir + "/run/network/netns"} {
			args := append([]string{"--net=/run/netns/" + h.Podman.Namespace}, strings.Fields(command)...)
			out, err := exec.Command("nsenter", args...).CombinedOutput()
			if ls := strings.HasPrefix(command, "ls"); (err != nil) != ls || !ls && regexp.MustCompile(`skr-|skerry-(wg|vx)|lo:skerry|inet skerry|10\.99\.`).Match(out) {
				t.Errorf("%s on a host that left says %v: %s", command, err, out)
			}
		}
	}
}

// apart lets no machine join that others don't reach.
func (n *networked) apart(t *testing.T, tf *Terraform) {
	t.Helper()
	n.Part(t, n.Hosts[2])
	out, err := tf.Try(t, "apply", "-auto-approve")
	for _, want := range []string{"servers[0]", "servers[2]", "does not reach node", "10.77.0.3:5058", "a bridge or a routed network"} {
		if err == nil || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("nodes that don't reach each other: the error does not say %q: %v\n%s", want, err, out)
		}
	}
	n.Heal(t)
}

// serveOutside serves on a machine that is not in the cluster, and answers with
// who asks.
func (n *networked) serveOutside(t *testing.T) {
	t.Helper()
	place, address := n.Outside(t)
	listener := place.Listen(t, net.JoinHostPort(address, "8080"))
	n.outside, n.address = place, listener.Addr().String()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr)
	})}
	go server.Serve(listener)            //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() }) //nolint:errcheck // it ends with the test
}

// at is the place of a replica.
func (n *networked) at(t *testing.T, s resources.Service, r resources.ReplicaSummary) vantage {
	t.Helper()
	i := slices.IndexFunc(n.Hosts, func(h *testbed.Host) bool { return h.Node(t) == r.Node })
	return vantage{n.Hosts[i].Replica(r.ID), s, r}
}

// churn changes what runs where, without waiting for what comes of it.
func (n *networked) churn(t *testing.T) {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("the changes are of seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // nothing secret
	for turn := range 24 {
		host := n.Hosts[random.IntN(len(n.Hosts))]
		switch what := random.IntN(4); {
		case turn == 12:
			n.Part(t, host)
			n.without(t, func() { n.settles(t) }, host)
			n.Heal(t)
		case what == 0:
			if programs := host.Podman.Programs(t); len(programs) > 0 {
				kill(t, programs[random.IntN(len(programs))])
			}
		case what == 1:
			n.move(t, host)
		default:
			n.scale(t, random.IntN(10), random.IntN(4))
		}
	}
}

// move empties a host of its replicas, and lets it have others.
func (n *networked) move(t *testing.T, host *testbed.Host) {
	t.Helper()
	for _, a := range []resources.Availability{resources.NodeDrained, resources.NodeActive} {
		if err := n.control.PutAvailability(t.Context(), host.Node(t), a); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *networked) scale(t *testing.T, service, replicas int) {
	t.Helper()
	all, err := n.control.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := all[service%len(all)].Service
	s.Replicas = replicas
	if _, err := n.control.PutService(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// soon is how long the nodes may take until they know what has changed.
const soon = 5 * time.Second

// holds returns once every replica finds and reaches just what it may.
func (n *networked) holds(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for {
		began := time.Now()
		count, err := n.check(t)
		if err == nil {
			t.Logf("%d checks held in %s", count, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d checks: %v", count, err)
		}
	}
}

// check asks from one replica of each service on each host.
func (n *networked) check(t *testing.T) (count int, err error) {
	t.Helper()
	services, err := n.control.Services(t.Context())
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var checks []func() error
	for _, s := range services {
		asked := map[resources.NodeID]bool{}
		for _, r := range s.Replicas {
			if asked[r.Node] {
				continue
			}
			asked[r.Node] = true
			from := n.at(t, s.Service, r)
			for _, to := range services {
				checks = append(checks, from.names(ctx, to)...)
				checks = append(checks, from.ways(ctx, to)...)
			}
			checks = append(checks, from.wayOut(ctx, n.address, !slices.Equal(s.Service.Networks, []string{"back"})))
			checks = append(checks, from.nodes(ctx, n.Hosts)...)
		}
	}
	published := slices.IndexFunc(services, func(s resources.ServiceStatus) bool { return s.Service.Name == "m0" })
	checks = append(checks, n.ports(ctx, services[published])...)
	// Not the first failure only: which ones fail together tells why.
	failures := make(chan error, len(checks))
	var group errgroup.Group
	group.SetLimit(8)
	for _, check := range checks {
		group.Go(func() error { failures <- check(); return nil })
	}
	group.Wait() //nolint:errcheck // they are in failures
	close(failures)
	var all []error
	for err := range failures {
		if err != nil {
			all = append(all, err)
		}
	}
	if len(all) > 20 {
		all = append(all[:20], fmt.Errorf("and %d more", len(all)-20))
	}
	return len(checks), errors.Join(all...)
}

// ports checks that every host answers at the port of a service, over TCP and UDP,
// from outside and on the host itself.
func (n *networked) ports(ctx context.Context, s resources.ServiceStatus) []func() error {
	var checks []func() error
	for i, h := range n.Hosts {
		for name, from := range map[string]testbed.Replica{"outside": n.outside, "the host": h.On()} {
			v := vantage{Replica: from}
			address := net.JoinHostPort(testbed.Address(i), "8088")
			checks = append(checks, func() error {
				said, err := v.get(ctx, address)
				if want := len(ready(s, "front")) > 0; want != strings.Contains(said, "from m0-") || want != (err == nil) {
					return fmt.Errorf("from %s, %s says %q: %w", name, address, said, err)
				}
				return nil
			}, func() error {
				if len(ready(s, "front")) == 0 {
					return nil
				}
				said, err := v.exchange(ctx, address)
				if !strings.HasPrefix(said, "m0-") {
					return fmt.Errorf("from %s, %s says %q over UDP: %w", name, address, said, err)
				}
				return nil
			})
		}
	}
	return checks
}

// vantage is the place of a replica.
type vantage struct {
	testbed.Replica
	service resources.Service
	replica resources.ReplicaSummary
}

func (v vantage) joins(network string) bool { return slices.Contains(v.service.Networks, network) }

// ready lists where a service's ready replicas are on a network, sorted.
func ready(s resources.ServiceStatus, network string) []netip.Addr {
	var all []netip.Addr
	for _, r := range s.Replicas {
		if r.Wanted && r.Status.State == resources.ReplicaRunning && !r.Status.NotReady {
			all = append(all, resources.AddressOn(network, r.Addresses))
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// names checks what the names of a service stand for.
func (v vantage) names(ctx context.Context, to resources.ServiceStatus) []func() error {
	var checks []func() error
	look := func(name string, want []netip.Addr) {
		checks = append(checks, func() error {
			got, err := v.Lookup(ctx, name)
			if err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%s finds %s at %v, want %v: %w", v.replica.ID, name, got, want, err)
			}
			return nil
		})
	}
	first := ""
	for _, network := range []string{"front", "back"} {
		if !v.joins(network) || !slices.Contains(to.Service.Networks, network) {
			look("replicas."+to.Service.Name+"."+network+"."+resources.DomainName, nil)
			continue
		}
		look("replicas."+to.Service.Name+"."+network, ready(to, network))
		look(to.Service.Name+"."+network+"."+resources.DomainName, []netip.Addr{resources.AddressOn(network, to.VirtualIPs)})
		if first == "" || v.service.Networks[0] == network {
			first = network
		}
	}
	if first == "" {
		look(to.Service.Name, nil)
		return checks
	}
	look(to.Service.Name, []netip.Addr{resources.AddressOn(first, to.VirtualIPs)})
	look("replicas."+to.Service.Name, ready(to, first))
	return checks
}

// ways checks whether a service is reached, by its virtual IPs and directly.
func (v vantage) ways(ctx context.Context, to resources.ServiceStatus) []func() error {
	var checks []func() error
	for _, network := range to.Service.Networks {
		replicas := ready(to, network)
		for _, address := range append(replicas, resources.AddressOn(network, to.VirtualIPs)) {
			checks = append(checks, func() error {
				began := time.Now()
				said, err := v.get(ctx, netip.AddrPortFrom(address, 8080).String())
				took := time.Since(began)
				switch want := v.joins(network) && len(replicas) > 0; {
				case want && err != nil:
					return fmt.Errorf("%s does not reach %s of %s on %s: %w", v.replica.ID, address, to.Service.Name, network, err)
				case want && !strings.Contains(said, "from "+to.Service.Name+"-"):
					return fmt.Errorf("%s reaches %q at %s of %s", v.replica.ID, said, address, to.Service.Name)
				case !want && err == nil:
					return fmt.Errorf("%s reaches %s of %s on %s, and must not", v.replica.ID, address, to.Service.Name, network)
				case want:
					if said, err := v.exchange(ctx, netip.AddrPortFrom(address, 8080).String()); !strings.HasPrefix(said, to.Service.Name+"-") {
						return fmt.Errorf("%s reaches %q over UDP at %s of %s: %w", v.replica.ID, said, address, to.Service.Name, err)
					}
				case took > time.Second:
					return fmt.Errorf("%s was refused %s only after %s", v.replica.ID, address, took)
				}
				return nil
			})
		}
	}
	return checks
}

// wayOut checks the way out of the cluster, which has the node's address.
func (v vantage) wayOut(ctx context.Context, outside string, open bool) func() error {
	return func() error {
		said, err := v.get(ctx, outside)
		switch {
		case open && err != nil:
			return fmt.Errorf("%s finds no way out: %w", v.replica.ID, err)
		case open && !strings.HasPrefix(said, "10.77.0."):
			return fmt.Errorf("%s is seen outside as %s", v.replica.ID, said)
		case !open && err == nil:
			return fmt.Errorf("%s finds a way out, and must not", v.replica.ID)
		}
		return nil
	}
}

// nodes checks that no port of a node is reached.
func (v vantage) nodes(ctx context.Context, hosts []*testbed.Host) []func() error {
	var checks []func() error
	for i := range hosts {
		for _, port := range []string{resources.ServerPort, resources.PeerPort, resources.AgentPort} {
			address := net.JoinHostPort(testbed.Address(i), port)
			checks = append(checks, func() error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				connected, err := v.Dial(ctx, "tcp", address)
				if err == nil {
					connected.Close() //nolint:errcheck // it should not be there
					return fmt.Errorf("%s reaches %s, which is a node's", v.replica.ID, address)
				}
				return nil
			})
		}
	}
	return checks
}

// exchange sends a datagram, again where none comes back.
func (v vantage) exchange(ctx context.Context, address string) (string, error) {
	connected, err := v.Dial(ctx, "udp", address)
	if err != nil {
		return "", err
	}
	defer connected.Close() //nolint:errcheck // it was asked
	answer := make([]byte, 1500)
	for range 3 {
		if _, err = connected.Write([]byte("?")); err != nil {
			return "", err
		}
		if err = connected.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return "", err
		}
		var size int
		if size, err = connected.Read(answer); err == nil {
			return string(answer[:size]), nil
		}
	}
	return "", err
}

func (v vantage) get(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := v.HTTP().Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
