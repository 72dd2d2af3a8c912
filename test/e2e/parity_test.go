package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
)

// side is one engine with a cluster of its own.
type side struct {
	name string
	engine
	*dev
}

// scenario is one step in the life of a cluster, which both engines go.
type scenario struct {
	name string
	// change makes the program of the step from that of the one before.
	change func(program) program
	// before is done to the cluster by hand.
	before func(t *testing.T, s side)
	// do is an apply unless it is given.
	do func(t *testing.T, s side, p program) report
	// want are the actions of both; instead are Terraform's where it goes another
	// way by its nature.
	want, instead map[string]string
	// fails is part of the one error; none is wanted where it is empty.
	fails string
	// unlike is true where each engine says in words of its own what stopped a call.
	unlike bool
	// lasts is true where the program of the step is that of the next one, too.
	lasts bool
}

type acts = map[string]string

// with changes properties of a block; nil removes one.
func with(address string, properties map[string]any) func(program) program {
	return func(p program) program {
		p = slices.Clone(p)
		for i, b := range p {
			if b.kind+"."+b.name != address {
				continue
			}
			p[i].properties = maps.Clone(b.properties)
			for name, v := range properties {
				p[i].properties[name] = v
				if v == nil {
					delete(p[i].properties, name)
				}
			}
		}
		return p
	}
}

// and adds a service.
func and(name string, properties map[string]any) func(program) program {
	return func(p program) program {
		all := map[string]any{
			"cluster": "${cluster.home.endpoint}", "name": name, "image": "${image.web.reference}",
			"resources": map[string]any{"cpu": "50m", "memory": "32MiB"},
		}
		maps.Copy(all, properties)
		return append(slices.Clone(p), block{"service", name, all})
	}
}

func parityProgram(endpoint, archive string) program {
	const home = "${cluster.home.endpoint}"
	return program{
		{"cluster", "home", map[string]any{"name": "home", "servers": []any{endpoint}}},
		{"image", "web", map[string]any{"cluster": home, "name": "web", "archive": archive}},
		{"network", "back", map[string]any{"cluster": home, "name": "back"}},
		{"volume", "rows", map[string]any{"cluster": home, "name": "rows", "retain_on_destroy": false}},
		{"secret", "key", map[string]any{"cluster": home, "name": "key", "value": "hush, one", "version": 1}},
		{"service", "web", map[string]any{
			"secrets": []any{map[string]any{"secret": "${secret.key.name}"}},
			"cluster": home, "name": "web", "image": "${image.web.reference}", "networks": []any{"${network.back.name}"},
			"mounts": []any{map[string]any{"volume": "${volume.rows.name}", "path": "/data"}},
			"ports":  []any{map[string]any{"target": 8080}}, "env": map[string]any{"GREETING": "hello"},
			"resources": map[string]any{"cpu": "50m", "memory": "32MiB"},
		}},
	}
}

var parity = []scenario{
	{
		name: "what is not known yet is in the plan",
		do:   func(t *testing.T, s side, p program) report { return s.plan(t, p) },
		want: acts{"cluster.home": "create", "image.web": "create", "network.back": "create", "volume.rows": "create", "secret.key": "create", "service.web": "create"},
	},
	{
		name: "create",
		want: acts{"cluster.home": "create", "image.web": "create", "network.back": "create", "volume.rows": "create", "secret.key": "create", "service.web": "create"},
	},
	{name: "no change"},
	{
		name:   "another spelling",
		change: with("service.web", map[string]any{"resources": map[string]any{"cpu": "0.05", "memory": "32768KiB"}}),
	},
	{
		name:   "change in place",
		change: with("service.web", map[string]any{"env": map[string]any{"GREETING": "changed"}, "replicas": 1}),
		want:   acts{"service.web": "update"}, lasts: true,
	},
	{
		name:   "a secret changes",
		change: with("secret.key", map[string]any{"value": "hush, two", "version": 2}),
		want:   acts{"secret.key": "update"}, lasts: true,
	},
	{
		name:   "what the definition refuses",
		change: with("service.web", map[string]any{"pull_policy": "sometimes"}),
		fails:  "pullPolicy",
	},
	{
		name:   "what the server refuses",
		change: and("other", map[string]any{"ports": []any{map[string]any{"target": 8080}}}),
		want:   acts{"service.other": "create"}, fails: "which service web publishes on every node",
	},
	{
		name:   "replace",
		change: with("service.web", map[string]any{"name": "www"}),
		want:   acts{"service.web": "replace"},
	},
	{name: "and back", want: acts{"service.web": "replace"}},
	{
		name: "drift: changed by hand",
		before: func(t *testing.T, s side) {
			status, err := controlOf(t, s.dev).Service(t.Context(), "web")
			if err == nil {
				status.Service.Env = map[string]string{"GREETING": "by hand"}
				_, err = controlOf(t, s.dev).PutService(t.Context(), status.Service)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		want: acts{"service.web": "update"},
	},
	{
		name: "drift: removed by hand",
		before: func(t *testing.T, s side) {
			if err := controlOf(t, s.dev).DeleteService(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
		},
		want: acts{"service.web": "create"},
	},
	{
		name: "import",
		do: func(t *testing.T, s side, p program) report {
			return s.adopt(t, p, "service.web", "web@"+testbedEndpoint(t, s))
		},
	},
	{
		name:   "a create that fails",
		change: and("bad", map[string]any{"entrypoint": []any{"/nothing"}}),
		want:   acts{"service.bad": "create"}, fails: "CommandNotFound", lasts: true,
	},
	{
		name:   "and is corrected",
		change: with("service.bad", map[string]any{"entrypoint": nil}),
		want:   acts{"service.bad": "update"}, instead: acts{"service.bad": "replace"}, lasts: true,
	},
	{
		name:   "an update that fails",
		change: with("service.bad", map[string]any{"env": map[string]any{"EXIT": "3"}}),
		want:   acts{"service.bad": "update"}, fails: "exit code 3",
	},
	{name: "and is taken back", want: acts{"service.bad": "update"}},
	{
		name:   "a create that is cancelled",
		change: and("slow", map[string]any{"health": map[string]any{"readiness": map[string]any{"tcp": map[string]any{"port": 9}, "interval": "1s"}}}),
		do:     cancelled, want: acts{"service.slow": "create"}, fails: "service slow has 0 of 1 replicas running", unlike: true,
	},
	{name: "and given up", want: acts{"service.slow": "delete"}},
}

// testbedEndpoint is the endpoint of the side's cluster.
func testbedEndpoint(t *testing.T, s side) string {
	t.Helper()
	e, err := resources.ParseEndpoints(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	control := controlOf(t, s.dev)
	status, err := control.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e[0].Cluster, e[0].Socket = status.ID, strings.Replace(e[0].Socket, "agent.sock", "server.sock", 1)
	return resources.FormatEndpoints(e)
}

// cancelled interrupts an apply once its service is there.
func cancelled(t *testing.T, s side, p program) report {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for ctx.Err() == nil {
			if _, err := controlOf(t, s.dev).Service(ctx, "slow"); err == nil {
				return
			}
			<-look.C
		}
	}()
	return s.apply(ctx, t, p)
}

// observed is what a cluster has, without what differs by chance. Revisions
// count what was tried, which Terraform does from the beginning where it makes
// a service anew.
func (d *dev) observed(t *testing.T) map[string]string {
	t.Helper()
	control := controlOf(t, d)
	services, err := control.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range services {
		all["service "+s.Service.Name] = fmt.Sprintf("%s, %d ready, %+v", s.State, s.Ready, normalService(s.Service))
	}
	networks, err := control.Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		all["network "+n.Network.Name] = fmt.Sprintf("%+v", n.Network)
	}
	volumes, err := control.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		all["volume "+v.Volume.Name] = fmt.Sprintf("%+v", v.Volume)
	}
	return all
}

func normalService(s resources.Service) string {
	return fmt.Sprint(s.Replicas, s.Image, s.Env, s.Networks, s.Ports, s.Mounts, s.Entrypoint)
}

// Both plugins do the same with the same: every scenario by Terraform and by
// Pulumi, each with a cluster of its own.
func TestParity(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs Terraform, Pulumi and Podman")
	}
	archive := images.Archive(t)
	one, two := startDev(t), startDev(t)
	sides := []side{{"terraform", terraformEngine{NewTerraform(t, bin, "")}, one}, {"pulumi", newPulumi(t), two}}
	last := func(p program) program { return p }
	for _, c := range parity {
		if t.Failed() {
			break // what follows builds on it
		}
		before, change := last, c.change
		step := func(p program) program {
			if change == nil {
				return before(p)
			}
			return change(before(p))
		}
		if c.lasts {
			last = step
		}
		t.Run(c.name, func(t *testing.T) { c.run(t, sides, archive, step) })
	}
	t.Run("destroy, in order", func(t *testing.T) {
		for _, s := range sides {
			r := s.destroy(t)
			place := func(address string) int { return slices.Index(r.deletes, address) }
			if r.failed || len(r.deletes) != 7 || place("cluster.home") != 6 || place("service.web") > place("secret.key") || place("service.web") > place("network.back") || place("service.web") > place("volume.rows") {
				t.Errorf("%s removes %v\n%s", s.name, r.deletes, r.all)
			}
			if left := s.containers(t, "web"); len(left) > 0 {
				t.Errorf("%s leaves %v", s.name, left)
			}
		}
	})
}

func (c *scenario) run(t *testing.T, sides []side, archive string, step func(program) program) {
	t.Helper()
	reports := make([]report, len(sides))
	for i, s := range sides {
		if c.before != nil {
			c.before(t, s)
		}
		p := step(parityProgram(s.Endpoint, archive))
		began := time.Now()
		if c.do != nil {
			reports[i] = c.do(t, s, p)
		} else {
			reports[i] = s.apply(t.Context(), t, p)
		}
		t.Logf("%s: %s", s.name, time.Since(began).Round(100*time.Millisecond))
		c.judge(t, s, reports[i])
	}
	if diff := cmp.Diff(reports[0].errors, reports[1].errors); diff != "" && !c.unlike {
		t.Errorf("the errors differ (-terraform +pulumi)\n%s", diff)
	}
	for i, s := range sides {
		if strings.Contains(s.text(t)+reports[i].all, "hush") {
			t.Errorf("%s shows a secret", s.name)
		}
	}
	if t.Failed() || c.name == parity[0].name {
		return
	}
	if diff := cmp.Diff(sides[0].observed(t), sides[1].observed(t)); diff != "" {
		t.Errorf("the clusters differ (-terraform +pulumi)\n%s", diff)
	}
}

// judge compares what one engine did with what is wanted.
func (c *scenario) judge(t *testing.T, s side, r report) {
	t.Helper()
	want := c.want
	if s.name == "terraform" && c.instead != nil {
		want = c.instead
	}
	if diff := cmp.Diff(len(want), len(r.actions)); diff != "" || !maps.Equal(want, r.actions) {
		t.Errorf("%s does %v; want %v\n%s", s.name, r.actions, want, r.all)
	}
	said := strings.Join(r.errors, "\n")
	if r.failed != (c.fails != "") || !strings.Contains(said, c.fails) {
		t.Errorf("%s fails: %v, and says %q; want %q\n%s", s.name, r.failed, said, c.fails, r.all)
	}
}
