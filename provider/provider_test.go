package provider

import (
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/provider/definition"
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
	for _, d := range p.Resources {
		if problems := d.Validate(resolved(d.Example)); d.Example == nil || len(problems) > 0 {
			t.Errorf("%s: its example in examples.go is missing, or wrong: %v", d.Name, problems)
		}
	}
	for _, path := range p.Config.Undocumented() {
		t.Errorf("provider: %s has no doc comment", path)
	}
}

// resolved gives an example with unknown values for those of other resources.
func resolved(tree any) any {
	switch v := tree.(type) {
	case string:
		if strings.HasPrefix(v, "${") {
			return definition.Unknown{}
		}
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = resolved(e)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, e := range v {
			m[key] = resolved(e)
		}
		return m
	}
	return tree
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
