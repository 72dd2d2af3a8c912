package provider

import (
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestTheProviderIsDefined(t *testing.T) {
	p, err := New(slog.New(slog.DiscardHandler), "1.2.3")
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

var update = flag.Bool("update", false, "write the reference anew")

func TestTheReferenceIsUpToDate(t *testing.T) {
	p, err := New(slog.New(slog.DiscardHandler), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{"README.md": p.Reference()}
	for _, d := range p.Resources {
		pages[d.Name+".md"] = d.Reference(p.Name)
	}
	for name, page := range pages {
		path := filepath.Join("../docs/reference", name)
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		there, err := os.ReadFile(path)
		if err != nil || string(there) != page {
			t.Errorf("%s is not up to date: run make generate (%v)", path, err)
		}
	}
}

func TestTheDocsAreUpToDate(t *testing.T) {
	if out, err := exec.Command("go", "run", "./definition/docgen", "-check", "-out", "docs_gen.go", ".", "../resources").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
