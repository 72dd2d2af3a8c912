// Package metricstest holds the page of metrics against a registry.
package metricstest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// page from the directories of the packages that register metrics.
var page = filepath.Join("..", "..", "docs", "metrics.md")

var (
	row       = regexp.MustCompile("^\\| `([a-z_]+)` \\|")
	described = regexp.MustCompile(`^Desc\{fqName: "([a-z_]+)"`)
)

// CheckPage compares the metrics of skerry in the registry with the rows in the
// section of the page, as in "Server".
func CheckPage(t *testing.T, r *prometheus.Registry, section string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %s", page, section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var listed []string
	for line := range strings.Lines(rest) {
		if match := row.FindStringSubmatch(line); match != nil {
			listed = append(listed, match[1])
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(registered(r), listed); diff != "" {
		t.Errorf("%s, section %s (-registered +listed):\n%s", page, section, diff)
	}
}

func registered(r *prometheus.Registry) []string {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); r.Describe(descs) }()
	names := map[string]bool{}
	for d := range descs {
		if match := described.FindStringSubmatch(d.String()); match != nil && strings.HasPrefix(match[1], "skerry_") {
			names[match[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
