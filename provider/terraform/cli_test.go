package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/skerry-io/skerry/resources"
)

// The tests here run the real CLI against the provider in this process, so that
// the world it changes outlives each command.

const address = "registry.terraform.io/skerry-io/test"

// header ties the name test to the provider of this process.
const header = `terraform {
  required_providers {
    test = { source = "` + address + `" }
  }
}
`

// cli is a directory with a configuration, and the CLI that applies it.
type cli struct {
	testing.TB
	world   *world
	program string
	dir     string
	env     []string
}

func newCLI(t testing.TB) *cli {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the CLI")
	}
	c := &cli{TB: t, world: &world{things: map[string]Anything{}}, program: findCLI(t), dir: t.TempDir()}
	settings := filepath.Join(c.dir, "cli.tfrc")
	if err := os.WriteFile(settings, []byte("disable_checkpoint = true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TF_") {
			c.env = append(c.env, variable)
		}
	}
	c.env = append(c.env, "TF_CLI_CONFIG_FILE="+settings, "TF_IN_AUTOMATION=1", "TF_REATTACH_PROVIDERS="+c.serve())
	c.write("")
	c.succeed("init")
	return c
}

// findCLI gives the program that $TERRAFORM names, else one of PATH, as
// scripts/terraform does.
func findCLI(t testing.TB) string {
	t.Helper()
	names := []string{"terraform", "tofu", "../../build/tools/tofu"}
	if own := os.Getenv("TERRAFORM"); own != "" {
		names = []string{own}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	t.Skipf("there is none of %s; scripts/terraform makes one", strings.Join(names, ", "))
	return ""
}

// serve serves the provider until the test ends, and returns what the CLI needs
// to attach to it.
func (c *cli) serve() string {
	for _, logger := range []string{"TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK"} {
		c.Setenv(logger, "OFF") // they write every step to the test's output otherwise
	}
	ctx, cancel := context.WithCancel(context.Background())
	configs, closed := make(chan *plugin.ReattachConfig, 1), make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		if err := tf6server.Serve(address, providerserver.NewProtocol6(New(newProvider(c, c.world), "test")), tf6server.WithDebug(ctx, configs, closed), tf6server.WithGoPluginLogger(hclog.NewNullLogger())); err != nil {
			failed <- err
		}
	}()
	c.Cleanup(func() { cancel(); <-closed })
	var config *plugin.ReattachConfig
	select {
	case config = <-configs:
	case err := <-failed:
		close(closed)
		c.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{address: map[string]any{
		"Protocol": config.Protocol, "ProtocolVersion": config.ProtocolVersion, "Pid": config.Pid, "Test": config.Test,
		"Addr": map[string]string{"Network": config.Addr.Network(), "String": config.Addr.String()},
	}})
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

// write makes config the configuration.
func (c *cli) write(config string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "main.tf"), []byte(header+config), 0o644); err != nil {
		c.Fatal(err)
	}
}

// run returns what a command printed, on lines that are not wrapped, and its
// exit code.
func (c *cli) run(args ...string) (string, int) {
	c.Helper()
	command := exec.CommandContext(c.Context(), c.program, append(args, "-no-color")...)
	command.Dir, command.Env = c.dir, c.env
	out, err := command.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		c.Fatal(err)
	}
	return string(out), command.ProcessState.ExitCode()
}

func (c *cli) succeed(args ...string) string {
	c.Helper()
	out, code := c.run(args...)
	if code != 0 {
		c.Fatalf("%s ends with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func (c *cli) apply(config string) string {
	c.Helper()
	c.write(config)
	return c.succeed("apply", "-auto-approve", "-input=false")
}

// planned returns the plan for a configuration that changes something.
func (c *cli) planned(config string) string {
	c.Helper()
	c.write(config)
	out, code := c.run("plan", "-detailed-exitcode", "-input=false")
	if code != 2 {
		c.Fatalf("plan ends with %d; want changes:\n%s", code, out)
	}
	return out
}

// settled fails where the plan for a configuration changes anything.
func (c *cli) settled(config string) {
	c.Helper()
	c.write(config)
	if out, code := c.run("plan", "-detailed-exitcode", "-input=false"); code != 0 {
		c.Errorf("plan ends with %d; want no changes:\n%s", code, out)
	}
}

func (c *cli) contains(text string, parts ...string) {
	c.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			c.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func (c *cli) lacks(text string, parts ...string) {
	c.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			c.Errorf("%q is in:\n%s", part, text)
		}
	}
}

func (c *cli) state() string {
	c.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "terraform.tfstate"))
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

func (c *cli) names() []string { return slices.Sorted(maps.Keys(c.world.things)) }

func TestCLILifecycle(t *testing.T) {
	c := newCLI(t)
	out := c.apply(`resource "test_anything" "it" {
  name             = "n"
  size             = "1024MiB"
  tags             = ["b", "a"]
  labels           = {}
  order            = ["1024KiB"]
  secret           = "whispered"
  password         = "hushed"
  password_version = 1
  inners           = [{ path = "p" }]
  by_name          = { x = { path = "q", deep = { text = "d" } } }
}`)
	c.contains(out, "1 added", "(sensitive value)", "(write-only attribute)")
	c.lacks(out, "whispered", "hushed")
	c.contains(c.state(), `"id": "id-n"`, `"size": "1024MiB"`, `"password": null`, "10.0.0.1")
	c.lacks(c.state(), "hushed")
	if diff := cmp.Diff([]string{"hushed"}, c.world.passwords); diff != "" {
		t.Error(diff)
	}

	respelled := `resource "test_anything" "it" {
  name             = "n"
  size             = "1GiB"
  tags             = ["a", "b"]
  labels           = {}
  order            = ["1MiB"]
  secret           = "whispered"
  password         = "changed, but its version wasn't"
  password_version = 1
  inners           = [{ path = "p", size = "1MiB" }]
  by_name          = { x = { path = "q", deep = { text = "d" } } }
}`
	c.settled(respelled)

	larger := strings.Replace(respelled, `"1GiB"`, `"2GiB"`, 1)
	c.contains(c.planned(larger), "updated in-place", `~ size             = "1024MiB" -> "2GiB"`, "~ changes          = 1 -> (known after apply)", "0 to destroy")
	c.contains(c.apply(larger), "1 changed")
	c.contains(c.state(), `"id": "id-n"`, `"changes": 2`)
	c.settled(larger)

	rotated := strings.NewReplacer("its version wasn't", "anew", "password_version = 1", "password_version = 2").Replace(larger)
	c.lacks(c.apply(rotated), "anew")
	if got := c.world.passwords[len(c.world.passwords)-1]; got != "changed, but anew" {
		t.Errorf("the password is %q after its version changed", got)
	}

	deeper := strings.Replace(rotated, `text = "d"`, `text = "e"`, 1)
	c.contains(c.planned(deeper), "must be replaced", "# forces replacement")
	renamed := strings.Replace(rotated, `"n"`, `"m"`, 1)
	c.contains(c.planned(renamed), "must be replaced", "# forces replacement")
	c.apply(renamed)
	if diff := cmp.Diff([]string{"m"}, c.names()); diff != "" {
		t.Error(diff)
	}

	renamed = strings.Replace(renamed, "  labels           = {}\n", "", 1) // an import can't tell it from none
	c.apply(renamed)
	c.succeed("state", "rm", "test_anything.it")
	out, code := c.run("import", "-input=false", "test_anything.it", "nobody")
	if code != 1 {
		t.Errorf("an import of what isn't there ends with %d", code)
	}
	c.contains(out, "Can't import the anything", "there is none of this name")
	c.succeed("import", "-input=false", "test_anything.it", "m")
	c.lacks(c.state(), "anew")
	c.settled(renamed)

	delete(c.world.things, "m")
	c.contains(c.planned(renamed), "will be created")
	c.apply(renamed)
	c.succeed("destroy", "-auto-approve")
	if names := c.names(); names != nil {
		t.Errorf("%v are left after the destroy", names)
	}
}

// A value that is known during the apply only may stand anywhere.
func TestCLIUnknownValues(t *testing.T) {
	c := newCLI(t)
	config := func(later string) string {
		return `resource "terraform_data" "later" {
  input = { text = "` + later + `", size = "` + later + `MiB", list = ["` + later + `"], object = { path = "` + later + `", size = null, deep = null }, on = true, number = ` + later + ` }
}

locals {
  later = terraform_data.later.output
}

resource "test_anything" "it" {
  name     = "n"
  size     = local.later.size
  count_of = local.later.number
  on       = local.later.on
  tags     = ["a", local.later.text]
  order    = ["1GiB", local.later.size]
  labels   = { known = "k", later = local.later.text }
  inner    = local.later.object
  inners   = [{ path = "p" }, { path = local.later.text, size = local.later.size }, local.later.object]
  by_name  = { x = { path = local.later.text }, y = local.later.object }
  matrix   = [[1], [local.later.number]]
  guess    = local.later.text
  choice   = { mode = local.later.text }
  timeouts {
    create = "${local.later.number}m"
  }
}`
	}
	c.apply(config("5"))
	c.settled(config("5"))
	c.apply(config("6"))
	c.settled(config("6"))
	if got := c.world.things["n"]; got.Size != 6*resources.MiB || got.ByName["y"].Path != "6" || got.Choice != (Choice{Mode: "6", Level: 3}) || got.Changes != 2 {
		t.Errorf("the values arrived as %+v", got)
	}
}

func TestCLIErrorsNameTheAttribute(t *testing.T) {
	c := newCLI(t)
	c.write(`resource "test_anything" "it" {
  name     = "n"
  size     = "much"
  deadline = "soon"
  inners   = [{ path = "bad" }, { size = "1MiB" }]
  timeouts {
    create = "tomorrow"
  }
}`)
	out, code := c.run("plan")
	if code != 1 {
		t.Errorf("plan ends with %d", code)
	}
	c.contains(out, "Invalid anything: size", `size     = "much"`, "512MiB", "Invalid anything: deadline", "inners[0].path", "line 10", "inners[1].path: is missing", "timeouts.create")
	c.lacks(out, "password")

	c.world.fail = &resources.InvalidError{Problems: resources.Problems{{Path: "labels", Reason: "are too many"}}}
	c.write(`resource "test_anything" "it" {
  name   = "n"
  labels = { a = "b" }
}`)
	out, code = c.run("apply", "-auto-approve")
	if code != 1 {
		t.Errorf("apply ends with %d", code)
	}
	c.contains(out, "Can't create the anything: labels", `labels = { a = "b" }`, "are too many")
	c.world.fail = nil
	c.contains(c.planned(`resource "test_anything" "it" {
  name = "n"
}`), "is tainted, so must be replaced")
}

func TestCLIProviderSettings(t *testing.T) {
	c := newCLI(t)
	thing := `
resource "test_anything" "it" {
  name = "n"
}`
	c.write(`provider "test" {
  every = "never"
  link  = { host = "h", port = -1 }
}` + thing)
	out, code := c.run("plan")
	if code != 1 {
		t.Errorf("plan ends with %d", code)
	}
	c.contains(out, "Invalid provider configuration: every", `every = "never"`, "link.port: is negative")

	c.apply(`provider "test" {
  tags  = ["a"]
  order = [1]
  map   = { on = true }
  ratio = 0.5
  token = "hush"
  link  = { host = "h" }
}` + thing)
	want := settings{
		Every: resources.Duration(5 * time.Second), Tags: []string{"a"}, Order: []int{1}, Map: map[string]bool{"on": true}, Ratio: 0.5, Token: "hush",
		Link: &link{Host: "h", Port: 22, Fast: true},
	}
	if diff := cmp.Diff(want, c.world.settings); diff != "" {
		t.Errorf("settings (-want +got)\n%s", diff)
	}
}

// A provider block that isn't known yet stops neither the plan nor the reads
// before it.
func TestCLIUnknownProvider(t *testing.T) {
	c := newCLI(t)
	config := func(label, size string) string {
		return `resource "terraform_data" "later" {
  input            = "` + label + `"
  triggers_replace = "` + label + `"
}

provider "test" {
  label = terraform_data.later.output
}

resource "test_anything" "it" {
  name = "n"
  size = "` + size + `"
}`
	}
	c.apply(config("a", "1GiB"))
	if c.world.settings.Label != "a" {
		t.Errorf("the label is %q", c.world.settings.Label)
	}
	c.settled(config("a", "1GiB"))
	c.contains(c.apply(config("b", "2GiB")), "The provider block depends on", "1 added, 1 changed, 1 destroyed")
	if got := c.world.things["n"]; c.world.settings.Label != "b" || got.Size != 2*resources.GiB {
		t.Errorf("label %q, made %+v", c.world.settings.Label, got)
	}
}
