package definition

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Reference is the page of a resource in the reference, as Markdown. It is made
// from the definition alone.
func (d *Definition) Reference(provider string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s_%s\n\n%s\n", provider, d.Name, d.Doc)
	page(&b, d.Type)
	fmt.Fprintf(&b, "\n## Timeouts\n\nIn the block `timeouts`. %s\n\n| call | unless given |\n|---|---|\n", d.Type.Attribute(timeoutsName).Doc)
	for _, t := range []struct {
		call   string
		unless time.Duration
	}{{"create", d.timeouts.Create}, {"read", d.timeouts.Read}, {"update", d.timeouts.Update}, {"delete", d.timeouts.Delete}} {
		if t.call == "update" && d.ops.update == nil {
			continue
		}
		if t.unless == 0 {
			t.unless = DefaultTimeout
		}
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", t.call, plainDuration(t.unless))
	}
	b.WriteString("\n## Import\n\n")
	if d.ops.importer == nil {
		b.WriteString("It can't be imported.\n")
	} else {
		fmt.Fprintf(&b, "%s\n\n```sh\nterraform import %s_%s.NAME ID\n```\n", d.ImportID, provider, d.Name)
	}
	return b.String()
}

// Reference is the page of the provider's own configuration, as Markdown.
func (p *Provider) Reference() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The %s provider\n\n%s\n", p.Name, p.Doc)
	page(&b, p.Config)
	b.WriteString("\n## Resources\n\n")
	for _, d := range p.Resources {
		fmt.Fprintf(&b, "- [%s_%s](%[2]s.md): %s\n", p.Name, d.Name, d.Doc)
	}
	return b.String()
}

func page(b *strings.Builder, t *Type) {
	sections := []struct {
		title string
		holds func(*Attribute) bool
	}{
		{"Required", (*Attribute).Required},
		{"Optional", func(a *Attribute) bool { return a.Optional && !a.Block }},
		{"Filled in", func(a *Attribute) bool { return a.Computed && !a.Optional }},
	}
	for _, s := range sections {
		title := "\n## " + s.title + "\n\n"
		for _, a := range t.Attributes {
			if !s.holds(a) {
				continue
			}
			b.WriteString(title)
			title = ""
			entry(b, a, "", nil)
		}
	}
}

// entry is an attribute, with those inside it below. written says who writes it,
// where its section doesn't.
func entry(b *strings.Builder, a *Attribute, indent string, written []string) {
	words := slices.Concat([]string{a.Type.name()}, written, treatment(a))
	fmt.Fprintf(b, "%s- `%s` (%s)", indent, a.Name, strings.Join(words, ", "))
	if a.Doc != "" {
		b.WriteString(" " + a.Doc)
	}
	b.WriteString("\n")
	t := a.Type
	for t.Elem != nil {
		t = t.Elem
	}
	for _, inner := range t.Attributes {
		var own []string
		switch {
		case a.Computed && !a.Optional: // all of it is filled in
		case inner.Required():
			own = []string{"required"}
		case inner.Default != nil: // it is said below
		case inner.Optional:
			own = []string{"optional"}
		default:
			own = []string{"filled in"}
		}
		entry(b, inner, indent+"  ", own)
	}
}

// treatment says how an attribute is treated, beside being written or not.
func treatment(a *Attribute) []string {
	var all []string
	if a.Default != nil {
		all = append(all, fmt.Sprintf("default `%s`", scalarText(a.Default)))
	}
	for _, w := range []struct {
		is   bool
		word string
	}{
		{a.Optional && a.Computed && a.Default == nil, "filled in where left out"},
		{a.Replace, "a change replaces the resource"},
		{a.Volatile, "may change with any update"},
		{a.Sensitive && !a.WriteOnly, "sensitive"},
		{a.WriteOnly, "write-only"},
	} {
		if w.is {
			all = append(all, w.word)
		}
	}
	if a.Version != "" {
		all = append(all, fmt.Sprintf("sent again when `%s` changes", a.Version))
	}
	return all
}

// scalarText writes a default as its user would.
func scalarText(v any) string {
	if f, isNumber := v.(*big.Float); isNumber {
		return f.Text('f', -1)
	}
	return fmt.Sprint(v)
}

// plainDuration writes 20m for what Go writes as 20m0s.
func plainDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// name names a type as people do.
func (t *Type) name() string {
	switch t.Kind {
	case Bool:
		return "bool"
	case Int:
		return "whole number"
	case Float:
		return "number"
	case List:
		return "list of " + t.Elem.names()
	case Set:
		return "set of " + t.Elem.names()
	case Map:
		return "map of " + t.Elem.names()
	case Object:
		return "object"
	case String:
	}
	if t.quantity {
		return "quantity"
	}
	return "string"
}

// names is name for several of them.
func (t *Type) names() string {
	switch {
	case t.Elem != nil:
		kind, of, _ := strings.Cut(t.name(), " ")
		return kind + "s " + of
	case t.quantity:
		return "quantities"
	default:
		return t.name() + "s"
	}
}

// one is name with its article.
func (t *Type) one() string {
	if t.Kind == Object {
		return "an object"
	}
	return "a " + t.name()
}
