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

// The quickstart as a Pulumi program, with a VM.
func TestPulumiNode(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM; left out by -short")
	}
	image := nodeImage(t, "trixie")
	n := &nodeTest{host: libvirttest.Start(t), key: sshKey(t), archive: images.Archive(t)}
	program, dir := filepath.Join(t.TempDir(), "run"), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../pulumitest/run").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// All of it runs where the VM is reached: the program, the engine, the plugin.
	run := func(greeting, verb string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
		defer cancel()
		began := time.Now()
		settings := map[string]string{
			"hypervisor": n.host.URI, "pool": n.host.Pool, "network": n.host.Network, "node": "one", "image": image, "archive": n.archive,
			"sshKey": n.key, "greeting": greeting,
		}
		args := []string{"--net=" + n.host.Namespace, program, "-root", "../..", "-dir", dir}
		for key, value := range settings {
			args = append(args, "-config", key+"="+value)
		}
		c := exec.CommandContext(ctx, "nsenter", append(args, "pulumi-go", verb)...)
		var out, said bytes.Buffer
		c.Stdout, c.Stderr = &out, &said
		if err := c.Run(); err != nil {
			n.explain(t)
			t.Fatalf("%s: %v\n%s\n%s", verb, err, out.String(), said.String())
		}
		t.Logf("%s: %s", verb, time.Since(began).Round(100*time.Millisecond))
		return out.String()
	}
	run("hello", "preview")
	run("hello", "up")
	var outputs struct{ URL string }
	if err := json.Unmarshal([]byte(run("hello", "outputs")), &outputs); err != nil {
		t.Fatal(err)
	}
	answers(t, n.host.Client(), outputs.URL+"/", "hello")
	run("hello", "settled")
	run("changed", "up")
	answers(t, n.host.Client(), outputs.URL+"/", "changed")
	run("changed", "refresh")
	run("changed", "settled")
	run("changed", "destroy")
	if machines := strings.TrimSpace(n.virsh(t, "list", "--all", "--name")); machines != "" {
		t.Errorf("machines after the destroy: %s", machines)
	}
	if left := n.files(t); len(left) > 0 {
		t.Errorf("volumes after the destroy: %v", left)
	}
}
