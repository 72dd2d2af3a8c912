package definition

import (
	"fmt"
	"strings"
)

// Reference is the page of a resource in the reference, as Markdown.
func (d *Definition) Reference(provider string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s_%s\n\n%s\n", provider, d.Name, d.Doc)
	page(&b, d.Type)
	if d.ImportID != "" {
		fmt.Fprintf(&b, "\n## Import\n\n%s\n\n```sh\nterraform import %s_%s.NAME ID\n```\n", d.ImportID, provider, d.Name)
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
		{"Optional", func(a *Attribute) bool { return a.Optional }},
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
			entry(b, a, "")
		}
	}
}

// entry is an attribute, with those inside it below.
func entry(b *strings.Builder, a *Attribute, indent string) {
	fmt.Fprintf(b, "%s- `%s` (%s) %s\n", indent, a.Name, strings.Join(words(a), ", "), a.Doc)
	t := a.Type
	for t.Elem != nil {
		t = t.Elem
	}
	for _, inner := range t.Attributes {
		entry(b, inner, indent+"  ")
	}
}

// words say how an attribute is written and treated.
func words(a *Attribute) []string {
	all := []string{a.Type.name()}
	if a.Block {
		all[0] = "block"
	}
	if a.Default != nil {
		all = append(all, fmt.Sprintf("default `%v`", a.Default))
	}
	for _, w := range []struct {
		is   bool
		word string
	}{{a.Replace, "a change replaces the resource"}, {a.Sensitive, "sensitive"}, {a.WriteOnly, "write-only"}} {
		if w.is {
			all = append(all, w.word)
		}
	}
	if a.Version != "" {
		all = append(all, fmt.Sprintf("sent again when `%s` changes", a.Version))
	}
	return all
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
		return "list of " + t.Elem.name() + "s"
	case Set:
		return "set of " + t.Elem.name() + "s"
	case Map:
		return "map of " + t.Elem.name() + "s"
	case Object:
		return "object"
	case String:
	}
	if t.quantity {
		return "quantity"
	}
	return "string"
}
