package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"

	cluster "github.com/skerry-io/skerry/examples/pulumi-go-cluster/program"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/libvirttest"
	"github.com/skerry-io/skerry/test/pulumitest"
)

// The example of a cluster, with the typed SDK, on machines that are there
// already.
func TestPulumiCluster(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 3)
	stack, err := pulumitest.Stack(t.Context(), pulumitest.Options{Root: "../..", Dir: t.TempDir(), Project: "pulumi-go-cluster", Program: cluster.Program})
	if err != nil {
		t.Fatal(err)
	}
	var machines []string
	for _, h := range hosts {
		machines = append(machines, h.Endpoint)
	}
	archive := images.Archive(t)
	settings := auto.ConfigMap{
		"machines":      {Value: marshal(t, machines)},
		"databaseImage": {Value: archive}, "databasePort": {Value: "8080"}, "databasePath": {Value: "/data"}, "webImage": {Value: archive},
		"databasePassword": {Value: "hush", Secret: true},
	}
	if err := stack.SetAllConfig(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
		defer cancel()
		if _, err := stack.Destroy(ctx); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	if r, err := stack.Preview(t.Context()); err != nil || r.ChangeSummary["create"] != 9 {
		t.Fatalf("the preview: %v (%v)", r.ChangeSummary, err)
	}
	if _, err := stack.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, hosts[2].Podman.Client(), "http://127.0.0.1:80/", "hello")
	if _, err := stack.Up(t.Context(), optup.ExpectNoChanges(), optup.Refresh()); err != nil {
		t.Error(err)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pulumiRun runs an example where its machines are reached: the program, the engine,
// the plugin.
type pulumiRun struct {
	*nodeTest
	example, program, dir string
	settings              map[string]string
}

func newPulumiRun(t *testing.T, example string) *pulumiRun {
	t.Helper()
	if testing.Short() {
		t.Skip("boots VMs; left out by -short")
	}
	p := &pulumiRun{
		nodeTest: &nodeTest{host: libvirttest.Start(t), key: sshKey(t), archive: images.Archive(t)},
		example:  example, program: filepath.Join(t.TempDir(), "run"), dir: t.TempDir(),
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "../pulumitest/run").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

func (p *pulumiRun) run(t *testing.T, verb string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
	defer cancel()
	began := time.Now()
	args := []string{"--net=" + p.host.Namespace, p.program, "-root", "../..", "-dir", p.dir}
	for key, value := range p.settings {
		args = append(args, "-config", key+"="+value)
	}
	c := exec.CommandContext(ctx, "nsenter", append(args, p.example, verb)...)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		p.explain(t)
		t.Fatalf("%s: %v\n%s\n%s", verb, err, out.String(), said.String())
	}
	t.Logf("%s: %s", verb, time.Since(began).Round(100*time.Millisecond))
	return out.String()
}

// outputs reads what the program has exported.
func (p *pulumiRun) outputs(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.run(t, "outputs")), into); err != nil {
		t.Fatal(err)
	}
}

// destroy removes everything, and looks whether it did.
func (p *pulumiRun) destroy(t *testing.T) {
	t.Helper()
	p.run(t, "destroy")
	p.isGone(t)
}

// The quickstart as a Pulumi program, with a VM.
func TestPulumiNode(t *testing.T) {
	t.Parallel()
	p := newPulumiRun(t, "pulumi-go")
	p.settings = map[string]string{
		"hypervisor": p.host.URI, "pool": p.host.Pool, "network": p.host.Network, "node": "one", "image": nodeImage(t, "trixie"), "archive": p.archive,
		"sshKey": p.key, "greeting": "hello",
	}
	p.run(t, "preview")
	p.run(t, "up")
	var outputs struct{ URL string }
	p.outputs(t, &outputs)
	answers(t, p.host.Client(), outputs.URL+"/", "hello")
	p.run(t, "settled")
	p.settings["greeting"] = "changed"
	p.run(t, "up")
	answers(t, p.host.Client(), outputs.URL+"/", "changed")
	p.run(t, "refresh")
	p.run(t, "settled")
	p.destroy(t)
}

// The example of a cluster, with VMs, of which one is removed.
func TestPulumiNodes(t *testing.T) {
	t.Parallel()
	p := newPulumiRun(t, "pulumi-go-cluster")
	p.settings = map[string]string{
		"skerry:hypervisor": p.host.URI, "skerry:ssh": marshal(t, map[string]string{"key": p.key}),
		"pool": p.host.Pool, "libvirtNetwork": p.host.Network, "nodeImage": nodeImage(t, "trixie"), "nodes": "2",
		"databaseImage": p.archive, "databasePort": "8080", "databasePath": "/data", "databaseNode": "node-1", "webImage": p.archive,
		"databasePassword": "hush",
	}
	p.run(t, "up")
	var outputs struct{ Addresses []string }
	p.outputs(t, &outputs)
	if len(outputs.Addresses) != 2 {
		t.Fatalf("the web service has the addresses %v", outputs.Addresses)
	}
	p.settings["nodes"] = "1"
	p.run(t, "up")
	p.run(t, "refresh")
	p.run(t, "settled")
	p.outputs(t, &outputs)
	if len(outputs.Addresses) != 1 {
		t.Fatalf("the web service has the addresses %v", outputs.Addresses)
	}
	answers(t, p.host.Client(), "http://"+outputs.Addresses[0]+"/", "hello")
	address, _, _ := strings.Cut(outputs.Addresses[0], ":")
	p.isAlone(t, address, "node-1")
	p.destroy(t)
}
