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

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/skerry-io/skerry/provider/definition/definitiontest"
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
	world   *definitiontest.World
	program string
	dir     string
	env     []string
}

func newCLI(t testing.TB) *cli {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the CLI")
	}
	c := &cli{TB: t, world: definitiontest.NewWorld(), program: findCLI(t), dir: t.TempDir()}
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
		if err := tf6server.Serve(address, providerserver.NewProtocol6(New(definitiontest.Provider(c, c.world), "test")), tf6server.WithDebug(ctx, configs, closed), tf6server.WithGoPluginLogger(hclog.NewNullLogger())); err != nil {
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

func (c *cli) names() []string { return slices.Sorted(maps.Keys(c.world.Things)) }
