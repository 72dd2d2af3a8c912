package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/test/debiantest"
	"github.com/skerry-io/skerry/test/images"
)

// The example of machines that are there already, from nothing to nothing.
func TestExistingMachines(t *testing.T) {
	machines := debiantest.Start(t, 4)
	reference := ""
	var endpoints []string
	for _, m := range machines {
		reference = m.Podman.Load(t, images.Archive(t))
		endpoints = append(endpoints, m.Endpoint())
	}
	text, err := os.ReadFile("../../examples/existing-machines/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	// NewTerraform has a terraform block of its own.
	_, example, found := strings.Cut(string(text), "\nvariable")
	if !found {
		t.Fatal("the example has no variables")
	}
	list := func(all []string) string {
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	t.Setenv("TF_VAR_servers", list(endpoints[:3]))
	t.Setenv("TF_VAR_image", reference)
	t.Setenv("TF_VAR_skerry_version", "0.1.0")
	t.Setenv("TF_VAR_workers", list(endpoints[3:]))
	tf := NewTerraform(t, bin, "variable"+example)
	tf.Apply(t)
	tf.Settled(t)
	tf.Destroy(t)
	for _, m := range machines {
		if left := m.Left(t); len(left) > 0 {
			t.Errorf("machine %s has %q", m.Address, left)
		}
	}
}
