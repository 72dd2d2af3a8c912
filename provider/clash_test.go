package provider

import (
	"log/slog"
	"testing"
)

// A renamed resource is made before the old one is removed, unless both want
// something that only one may have.
func TestClashes(t *testing.T) {
	p, err := New(slog.New(slog.DiscardHandler), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	const home = "unix:///run/server.sock?cluster=0011223344556677&node=aabb"
	port := func(n int64) []any { return []any{map[string]any{"target": number(n)}} }
	static := func(address string) []any { return []any{map[string]any{"bridge": "br0", "address": address}} }
	image := map[string]any{"source": "image.qcow2"}
	for name, c := range map[string]struct {
		resource      string
		prior, config map[string]any
		want          bool
	}{
		"a service of the same name":   {"service", map[string]any{"cluster": home, "name": "a", "image": "i"}, map[string]any{"cluster": home, "name": "a", "image": "j"}, true},
		"a renamed service":            {"service", map[string]any{"cluster": home, "name": "a", "image": "i"}, map[string]any{"cluster": home, "name": "b", "image": "i"}, false},
		"a renamed service with ports": {"service", map[string]any{"cluster": home, "name": "a", "image": "i", "ports": port(80)}, map[string]any{"cluster": home, "name": "b", "image": "i", "ports": port(80)}, true},
		"and with others":              {"service", map[string]any{"cluster": home, "name": "a", "image": "i", "ports": port(80)}, map[string]any{"cluster": home, "name": "b", "image": "i", "ports": port(81)}, false},
		"a renamed cluster":            {"cluster", map[string]any{"name": "a", "servers": []any{"unix:///a"}}, map[string]any{"name": "b", "servers": []any{"unix:///a"}}, true},
		"and on other machines":        {"cluster", map[string]any{"name": "a", "servers": []any{"unix:///a"}}, map[string]any{"name": "b", "servers": []any{"unix:///b"}}, false},
		"a renamed node":               {"node", map[string]any{"name": "a", "image": image}, map[string]any{"name": "b", "image": image}, false},
		"a node with its address":      {"node", map[string]any{"name": "a", "image": image, "networks": static("10.0.0.2/24")}, map[string]any{"name": "b", "image": image, "networks": static("10.0.0.2/24")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range p.Resources {
				if d.Name != c.resource {
					continue
				}
				was, problems := d.Plan(t.Context(), nil, nil, c.prior)
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				plan, problems := d.Plan(t.Context(), nil, was.Planned, c.config)
				if len(problems) > 0 || plan.Clash != c.want {
					t.Errorf("clash is %v; want %v (%v)", plan.Clash, c.want, problems)
				}
			}
		})
	}
}
