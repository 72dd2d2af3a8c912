// Package e2e runs skerry as its users do: the real plugin under the real
// Terraform, the real skerry program, Podman and, for nodes, libvirt and VMs.
// dev_test.go runs what needs no VM, over `skerry dev`.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Terraform is a working directory of Terraform, with skerry's plugin.
type Terraform struct {
	Dir string
	// Within are the words before each command, as in nsenter --net=...
	Within []string
	env    []string
}

// callTimeout bounds one call of Terraform: a node under emulation takes
// minutes.
const callTimeout = 12 * time.Minute

const header = `terraform {
  required_providers {
    skerry = { source = "registry.terraform.io/skerry-io/skerry" }
  }
}
`

// NewTerraform makes a working directory with the configuration. bin is the
// directory of the built programs.
func NewTerraform(t testing.TB, bin, configuration string, env ...string) *Terraform {
	t.Helper()
	tf := &Terraform{Dir: t.TempDir()}
	tf.Use(t, bin)
	tf.env = append(os.Environ(), append([]string{"TF_CLI_CONFIG_FILE=" + tf.rc(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_LOG="}, env...)...)
	tf.Configure(t, configuration)
	return tf
}

func (tf *Terraform) rc() string { return filepath.Join(tf.Dir, "terraformrc") }

// Use takes the plugin in another directory from now on.
func (tf *Terraform) Use(t testing.TB, bin string) {
	t.Helper()
	overrides := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"registry.terraform.io/skerry-io/skerry\" = %q\n  }\n  direct {}\n}\n", bin)
	if err := os.WriteFile(tf.rc(), []byte(overrides), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Configure replaces the configuration.
func (tf *Terraform) Configure(t testing.TB, configuration string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tf.Dir, "main.tf"), []byte(header+configuration), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Forget removes the state, as if another machine had made everything.
func (tf *Terraform) Forget(t testing.TB) {
	t.Helper()
	for _, name := range []string{"terraform.tfstate", "terraform.tfstate.backup"} {
		if err := os.Remove(filepath.Join(tf.Dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// Command is a call of Terraform, for tests that end it themselves.
func (tf *Terraform) Command(ctx context.Context, args ...string) *exec.Cmd {
	words := append(append([]string{}, tf.Within...), "terraform", "-chdir="+tf.Dir)
	words = append(words, args...)
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Env = tf.env
	// Terraform forwards an interrupt to the plugin, and ends in order.
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	return c
}

// Try runs Terraform, and returns all that it said.
func (tf *Terraform) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
	defer cancel()
	began := time.Now()
	out, err := tf.Command(ctx, args...).CombinedOutput()
	t.Logf("terraform %s: %s", args[0], time.Since(began).Round(100*time.Millisecond))
	return string(out), err
}

// Run is Try for calls that must succeed.
func (tf *Terraform) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tf.Try(t, args...)
	if err != nil {
		t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Apply applies the configuration.
func (tf *Terraform) Apply(t testing.TB) string {
	t.Helper()
	return tf.Run(t, "apply", "-auto-approve", "-no-color")
}

// ApplyFails applies a configuration that can't be, and returns what was said.
// Lines that Terraform broke are put together again.
func (tf *Terraform) ApplyFails(t testing.TB) string {
	t.Helper()
	out, err := tf.Try(t, "apply", "-auto-approve", "-no-color")
	if err == nil {
		t.Fatalf("the apply succeeded, and should not:\n%s", out)
	}
	return strings.Join(strings.Fields(out), " ")
}

// Settled fails the test unless a plan is empty.
func (tf *Terraform) Settled(t testing.TB) {
	t.Helper()
	if out, err := tf.Try(t, "plan", "-detailed-exitcode", "-no-color"); err != nil {
		t.Fatalf("a second plan is not empty: %v\n%s", err, out)
	}
}

// Destroy removes everything.
func (tf *Terraform) Destroy(t testing.TB) string {
	t.Helper()
	return tf.Run(t, "destroy", "-auto-approve", "-no-color")
}

// Attribute reads an attribute of a resource from the state.
func (tf *Terraform) Attribute(t testing.TB, address, name string) any {
	t.Helper()
	var state struct {
		Values struct {
			RootModule struct {
				Resources []struct {
					Address string
					Values  map[string]any
				}
			} `json:"root_module"`
		}
	}
	out, err := tf.Command(t.Context(), "show", "-json").Output()
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(out)).Decode(&state)
	}
	if err != nil {
		t.Fatalf("read the state: %v", err)
	}
	for _, r := range state.Values.RootModule.Resources {
		if r.Address == address {
			return r.Values[name]
		}
	}
	t.Fatalf("the state has no %s", address)
	return nil
}
