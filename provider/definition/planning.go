package definition

import "fmt"

// Planning is a create or an update before it is shown. A resource's Plan may
// refuse it, and may say what else will change.
type Planning[S any] struct {
	// Prior is nil for a create.
	Prior *S
	// Planned has zero for what is not known yet.
	Planned *S
	*planning
}

type planning struct {
	typ                    *Type
	priorSpec, plannedSpec any
	prior, planned         map[string]any
	unknown                []string
	replace                []string
}

// Known is true where the value at path, as in "image.source", is known. Paths
// within lists and maps have the form of problems' paths.
func (p *planning) Known(path string) bool {
	for _, u := range p.unknown {
		if within(path, u) || within(u, path) {
			return false
		}
	}
	return true
}

// MayChange plans a computed attribute of the resource as unknown.
func (p *planning) MayChange(names ...string) {
	for _, name := range names {
		p.set(name, Unknown{})
	}
}

// Set plans a computed attribute of the resource as a text that is known.
func (p *planning) Set(name, value string) { p.set(name, value) }

func (p *planning) set(name string, value any) {
	a := p.typ.Attribute(name)
	if a == nil || !a.Computed {
		panic(fmt.Sprintf("plan %q: only a computed attribute of the resource itself can be planned", name))
	}
	p.planned[name] = value
}

// Replace asks for a new resource in place of this one, because of the
// attribute of the resource.
func (p *planning) Replace(name string) {
	if p.typ.Attribute(name) == nil {
		panic(fmt.Sprintf("replace because of %q: the resource has no such attribute", name))
	}
	p.replace = append(p.replace, name)
}

// sameName is true where the resource keeps its name, or may keep it.
func (p *planning) sameName() bool {
	a := p.typ.Attribute("name")
	if a == nil {
		return true
	}
	_, unknown := p.planned[a.Name].(Unknown)
	return unknown || a.Type.equal(p.prior[a.Name], p.planned[a.Name])
}
