package rules

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestBuild makes the table of each testdata/NAME.json, which is NAME.nft.
func TestBuild(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata holds no nodes: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			golden(t, strings.TrimSuffix(file, ".json")+".nft", Build(readNode(t, file)).String())
		})
	}
}

// golden compares text with that of a file, or writes it there.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

func readNode(t testing.TB, file string) resources.NodeNetwork {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var n resources.NodeNetwork
	if err := json.Unmarshal(text, &n); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return n
}

// TestBuildLeavesOut: what a map can't mean is left out, and nothing else.
func TestBuildLeavesOut(t *testing.T) {
	n := readNode(t, "testdata/cluster.json")
	want := Build(n).String()
	twice := *service(&n, "web")
	twice.Name, twice.VirtualIP = "zweb", netip.Addr{}
	n.Map.Services = append(n.Map.Services, twice)
	n.Map.Networks = append(n.Map.Networks, resources.MappedNetwork{Name: "nowhere"})
	n.Map.Nodes = append(n.Map.Nodes, netip.MustParseAddr("fd00::1"))
	n.Replicas = append(n.Replicas, resources.LocalReplica{ID: "zold-1", Ports: []resources.Port{{Target: 7}}})
	if diff := cmp.Diff(want, Build(n).String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestLongNames: the longest names fit what the kernel takes.
func TestLongNames(t *testing.T) {
	n := readNode(t, "testdata/cluster.json")
	long := strings.Repeat("n", resources.MaxNameLength)
	for i := range n.Map.Services {
		n.Map.Services[i].Name, n.Map.Services[i].Network = long, long
	}
	newNamespace(t, "names").do(t, func() error { return nft(t.Context(), replacement(Build(n))) })
}

// TestInNumbers: hooks are the same however a version of nft lists them.
func TestInNumbers(t *testing.T) {
	tests := map[string]string{
		"type nat hook output priority dstnat; policy accept;":             "type nat hook output priority -100; policy accept;",
		"type filter hook prerouting priority dstnat + 10; policy accept;": "type filter hook prerouting priority -90; policy accept;",
		"type filter hook output priority -90; policy accept;":             "type filter hook output priority -90; policy accept;",
		"type": "type",
	}
	for hook, want := range tests {
		if got := inNumbers(hook); got != want {
			t.Errorf("inNumbers(%q) = %q, want %q", hook, got, want)
		}
	}
}

// FuzzParse reads whatever somebody made of the table: a change from there is
// written, for nft to judge.
func FuzzParse(f *testing.F) {
	to := Build(readNode(f, "testdata/cluster.json"))
	f.Add(fixed)
	f.Add(to.String())
	f.Add("table inet skerry {\n\tset s {\n\t\telements = { a,\n\t\t b : c }\n\t}\n\tchain\n\t}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		from := parse(text)
		same := from.String() == to.String()
		if got := change(&from, to); same != (strings.Count(got, "\n") == 3) {
			t.Errorf("from %q to a table that is the same: %v, by:\n%s", from.String(), same, got)
		}
	})
}
