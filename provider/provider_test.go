package provider

import (
	"log/slog"
	"os/exec"
	"testing"
)

func TestTheProviderIsDefined(t *testing.T) {
	p, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Resources {
		for _, path := range d.Type.Undocumented() {
			t.Errorf("%s: %s has no doc comment", d.Name, path)
		}
	}
	for _, path := range p.Config.Undocumented() {
		t.Errorf("provider: %s has no doc comment", path)
	}
}

func TestTheDocsAreUpToDate(t *testing.T) {
	if out, err := exec.Command("go", "run", "./definition/docgen", "-check", "-out", "docs_gen.go", ".", "../resources").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
