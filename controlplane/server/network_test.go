package server

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

var addressValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// refused holds that an error has the status and says the words.
func refused(t *testing.T, err error, status int, words ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != status {
		t.Errorf("%v, want status %d", err, status)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
}

func on(service resources.Service, networks ...string) resources.Service {
	service.Networks = networks
	return service
}

func TestNetworksAreKept(t *testing.T) {
	c := start(t, &store.Memory{})
	ctx := t.Context()
	info := nodeInfo("n1")
	info.Addresses = []string{"10.77.0.9"}
	c.byHand(t, info)
	blue, err := c.PutNetwork(ctx, resources.Network{Name: "blue", Internal: true})
	want := resources.NetworkStatus{Network: resources.Network{Name: "blue", Internal: true, Encryption: "wireguard"}, CIDR: netip.MustParsePrefix("10.112.0.0/16")}
	if diff := cmp.Diff(want, blue, addressValues); diff != "" || err != nil {
		t.Errorf("the put (-want +got):\n%s%v", diff, err)
	}
	if read, err := c.Network(ctx, "blue"); err != nil || !cmp.Equal(read, blue, addressValues) {
		t.Errorf("it reads %+v, %v", read, err)
	}
	if _, err := c.Network(ctx, "red"); !api.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
	_, err = c.PutNetwork(ctx, resources.Network{Name: "red", CIDR: "10.113.0.0/16", Encryption: "rot13"})
	refused(t, err, http.StatusUnprocessableEntity, "encryption", "rot13")
	_, err = c.PutNetwork(ctx, resources.Network{Name: "red", CIDR: "10.0.0.0/8"})
	refused(t, err, http.StatusUnprocessableEntity, "cidr: 10.0.0.0/8 overlaps", "network blue, 10.112.0.0/16", "node n1, 10.77.0.9")
	if _, err := c.PutNetwork(ctx, resources.Network{Name: "red", CIDR: "10.40.0.0/16"}); err != nil {
		t.Error(err)
	}

	c.put(t, on(web(0), "blue"))
	if all, err := c.Networks(ctx); err != nil || len(all) != 2 || !slices.Equal(all[0].Services, []string{"web"}) || len(all[1].Services) > 0 {
		t.Errorf("the list is %+v, %v", all, err)
	}
	_, err = c.PutNetwork(ctx, resources.Network{Name: "blue", CIDR: "10.41.0.0/16"})
	refused(t, err, http.StatusConflict, "network blue has 10.112.0.0/16", "10.41.0.0/16", "services are on it: web")
	if changed, err := c.PutNetwork(ctx, resources.Network{Name: "blue", CIDR: "10.112.0.0/16", MTU: 1400}); err != nil || changed.Network.MTU != 1400 || changed.CIDR != blue.CIDR {
		t.Errorf("another MTU: %+v, %v", changed, err)
	}
	refused(t, c.DeleteNetwork(ctx, "blue"), http.StatusConflict, "network blue can't be removed", "web")
	if changed, err := c.PutNetwork(ctx, resources.Network{Name: "red", CIDR: "10.41.0.0/16"}); err != nil || changed.CIDR.String() != "10.41.0.0/16" {
		t.Errorf("other addresses of one that nobody is on: %+v, %v", changed, err)
	}
	if err := c.DeleteService(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blue", "red", "nothing"} {
		if err := c.DeleteNetwork(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if all, err := c.Networks(ctx); err != nil || len(all) > 0 {
		t.Errorf("left are %+v, %v", all, err)
	}
}

func TestAServiceOnANetworkThatIsNotThere(t *testing.T) {
	c := start(t, &store.Memory{})
	if _, err := c.PutNetwork(t.Context(), resources.Network{Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.PutService(t.Context(), on(web(1), "default", "bleu"))
	refused(t, err, http.StatusUnprocessableEntity, "networks[1]: is bleu", "blue, default", "skerry_network")
}

func TestPublishedPortsOfTwoServices(t *testing.T) {
	port := func(number int, protocol, mode string) resources.Port {
		return resources.Port{Target: 8080, Published: number, Protocol: protocol, Mode: mode}
	}
	has := func(p resources.Port, deleting bool) *store.State {
		other := resources.Service{Name: "other", Template: resources.Template{Ports: []resources.Port{p}}}
		return (&store.State{}).With(store.PutService(resources.ServiceRecord{Service: other, Deleting: deleting}))
	}
	for name, c := range map[string]struct {
		state *store.State
		port  resources.Port
		want  string
	}{
		"both on every node":             {has(port(80, "tcp", "cluster"), false), port(80, "tcp", "cluster"), "ports[0].published: is 80/tcp, which service other publishes on every node"},
		"another number":                 {has(port(80, "tcp", "cluster"), false), port(81, "tcp", "cluster"), ""},
		"another protocol":               {has(port(80, "udp", "cluster"), false), port(80, "tcp", "cluster"), ""},
		"its node against every node":    {has(port(80, "tcp", "cluster"), false), port(80, "tcp", "host"), "which service other publishes on every node"},
		"every node against some":        {has(port(80, "tcp", "host"), false), port(80, "tcp", "cluster"), "publishes on the nodes of its replicas"},
		"every node against one as old":  {has(port(80, "", ""), false), port(80, "tcp", "cluster"), "publishes on the nodes of its replicas"},
		"both on their nodes":            {has(port(80, "tcp", "host"), false), port(80, "tcp", "host"), ""},
		"one that is about to be gone":   {has(port(80, "tcp", "cluster"), true), port(80, "tcp", "cluster"), ""},
		"the target where none is given": {has(port(8080, "tcp", "cluster"), false), port(0, "tcp", "cluster"), "is 8080/tcp"},
	} {
		service := web(1)
		service.Ports = []resources.Port{c.port}
		err := checkPorts(c.state, service)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		service.Name = "other"
		if err := checkPorts(c.state, service); err != nil {
			t.Errorf("%s: a service against itself: %v", name, err)
		}
	}
}

// A network that services may still come back to is not changed under them.
func TestServicesOnANetwork(t *testing.T) {
	template := func(network string) resources.Template { return resources.Template{Networks: []string{network}} }
	record := func(name, network string) resources.ServiceRecord {
		return resources.ServiceRecord{Revision: 2, Service: resources.Service{Name: name, Template: template(network)}}
	}
	moving, moved, there := record("moving", "blue"), record("moved", "blue"), record("there", "red")
	moving.Stable = &resources.Revision{Number: 1, Template: template("red")}
	moved.Stable = &resources.Revision{Number: 2, Template: template("blue")}
	lingering := record("lingering", "blue")
	lingering.VirtualIPs = []resources.NetworkAddress{{Network: "red", Address: netip.MustParseAddr("10.1.0.2")}}
	state := (&store.State{}).With(store.PutService(moving), store.PutService(moved), store.PutService(there), store.PutService(lingering),
		store.PutService(resources.ServiceRecord{Service: resources.Service{Name: "plain"}}))
	if got := servicesOn(state, "red"); !slices.Equal(got, []string{"lingering", "moving", "there"}) {
		t.Errorf("on red are %v", got)
	}
	if got := servicesOn(state, resources.DefaultNetwork); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("on the default network are %v", got)
	}
}

// A replica that finds no address waits, and says why; a node that leaves frees
// what it had.
func TestAFullNetwork(t *testing.T) {
	s := &scene{t: t, seen: map[resources.ReplicaID]resources.ReplicaStatus{}}
	s.node("a")
	node := s.state().Nodes["a"]
	node.Overlay = &resources.NodeOverlay{}
	s.commit(store.PutNode(node), store.PutNetwork(worldNetwork("blue", "10.9.0.0/25")))
	s.service("web", 15, func(service *resources.Service) {
		service.Networks, service.Resources = []string{"blue"}, resources.Reservation{CPU: 1, Memory: resources.MiB}
	})
	for range 3 {
		s.step()
	}
	waiting := ""
	for _, r := range s.state().Replicas.All() {
		if r.Node == "" {
			waiting += r.Waiting
		}
	}
	if !strings.HasPrefix(waiting, "network blue is full on node a: replicas have all 14 addresses") {
		t.Errorf("waiting says %q", waiting)
	}
	if subnets := s.state().Networks["blue"].Subnets; len(subnets) != 1 {
		t.Errorf("the nodes have %v", subnets)
	}
	s.commit(store.DeleteNode("a"))
	s.step()
	if subnets := s.state().Networks["blue"].Subnets; len(subnets) > 0 {
		t.Errorf("a node that is gone has %v", subnets)
	}
}
