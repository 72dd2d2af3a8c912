package pulumi

import (
	"fmt"
	"go/format"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-io/skerry/provider/definition"
)

// examples gives a resource's example in the languages of programs, as the
// registry and the SDKs show it.
func (w *schemaWriter) examples(d *definition.Definition) string {
	if d.Example == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n\n{{% examples %}}\n## Example Usage\n\n{{% example %}}\n")
	for _, l := range []struct {
		name string
		text func(*example) string
	}{{"typescript", inTypeScript}, {"python", inPython}, {"go", inGo}, {"yaml", inYAML}} {
		fmt.Fprintf(&b, "\n```%s\n%s```\n", l.name, l.text(&example{names: w.names, of: d}))
	}
	b.WriteString("{{% /example %}}\n{{% /examples %}}")
	return b.String()
}

// example writes the example of one resource.
type example struct {
	names *names
	of    *definition.Definition
}

// variable is the name of the resource in its example.
func (e *example) variable() string {
	name, _ := e.of.Example["name"].(string)
	return name
}

func (e *example) class() string { return pascal(e.of.Name) }

var reference = regexp.MustCompile(`^\$\{([a-z]+)\.([a-z_]+)\}$`)

// language writes values as one language does.
type language struct {
	// reference writes an attribute of another resource, scalar any other scalar.
	reference func(of, name string) string
	scalar    func(t *definition.Type, v any) string
	// list, mapping and object begin and end what holds others.
	list, mapping, object func(t *definition.Type) (begin, end string)
	// attribute and key begin a value in an object and in a map.
	attribute, key func(name string) string
}

func (l *language) value(t *definition.Type, v any, indent string) string {
	switch v := v.(type) {
	case string:
		if parts := reference.FindStringSubmatch(v); parts != nil {
			return l.reference(parts[1], parts[2])
		}
	case []any:
		begin, end := l.list(t)
		return l.lines(begin, end, indent, len(v), func(i int, indent string) string { return l.value(t.Elem, v[i], indent) })
	case map[string]any:
		if t.Kind == definition.Object {
			return l.attributes(t, v, indent)
		}
		begin, end := l.mapping(t)
		keys := slices.Sorted(maps.Keys(v))
		return l.lines(begin, end, indent, len(v), func(i int, indent string) string {
			return l.key(keys[i]) + l.value(t.Elem, v[keys[i]], indent)
		})
	}
	return l.scalar(t, v)
}

func (l *language) attributes(t *definition.Type, object map[string]any, indent string) string {
	var there []*definition.Attribute
	for _, a := range t.Attributes {
		if object[a.Name] != nil {
			there = append(there, a)
		}
	}
	begin, end := l.object(t)
	return l.lines(begin, end, indent, len(there), func(i int, indent string) string {
		return l.attribute(camel(there[i].Name)) + l.value(there[i].Type, object[there[i].Name], indent)
	})
}

// lines writes each of n values on a line of its own.
func (l *language) lines(begin, end, indent string, n int, value func(i int, indent string) string) string {
	var b strings.Builder
	b.WriteString(begin + "\n")
	for i := range n {
		b.WriteString(indent + "\t" + value(i, indent+"\t") + ",\n")
	}
	b.WriteString(indent + end)
	return b.String()
}

func always(begin, end string) func(*definition.Type) (string, string) {
	return func(*definition.Type) (string, string) { return begin, end }
}

func plainScalar(v any) string {
	if f, isNumber := v.(*big.Float); isNumber {
		return f.Text('f', -1)
	}
	if text, isText := v.(string); isText {
		return strconv.Quote(text)
	}
	return fmt.Sprint(v)
}

func inTypeScript(e *example) string {
	l := &language{
		reference: func(of, name string) string { return of + "." + camel(name) },
		scalar:    func(_ *definition.Type, v any) string { return plainScalar(v) },
		list:      always("[", "]"), mapping: always("{", "}"), object: always("{", "}"),
		attribute: func(name string) string { return name + ": " },
		key:       func(name string) string { return name + ": " },
	}
	text := fmt.Sprintf("import * as %[1]s from %[2]q;\n\nconst %[3]s = new %[1]s.%[4]s(%[3]q, %[5]s);\n",
		e.names.provider, "@skerry-io/"+e.names.provider, e.variable(), e.class(), l.value(e.of.Type, e.of.Example, ""))
	return strings.ReplaceAll(text, "\t", "    ")
}

func inPython(e *example) string {
	scalar := func(_ *definition.Type, v any) string {
		if on, isBool := v.(bool); isBool {
			return upper(strconv.FormatBool(on))
		}
		return plainScalar(v)
	}
	l := &language{
		reference: func(of, name string) string { return of + "." + name },
		scalar:    scalar,
		list:      always("[", "]"), mapping: always("{", "}"), object: always("{", "}"),
		attribute: func(name string) string { return strconv.Quote(snake(name)) + ": " },
		key:       func(name string) string { return strconv.Quote(name) + ": " },
	}
	var b strings.Builder
	fmt.Fprintf(&b, "import pulumi_%[1]s as %[1]s\n\n%[2]s = %[1]s.%[3]s(%[2]q", e.names.provider, e.variable(), e.class())
	for _, a := range e.of.Type.Attributes {
		if v := e.of.Example[a.Name]; v != nil {
			fmt.Fprintf(&b, ",\n\t%s=%s", a.Name, l.value(a.Type, v, "\t"))
		}
	}
	b.WriteString(")\n")
	return strings.ReplaceAll(b.String(), "\t", "    ")
}

// snake is the inverse of camel.
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

func inGo(e *example) string {
	owner := e.class()
	pointer := func(t *definition.Type) (string, string) {
		return fmt.Sprintf("&%s.%sArgs{", e.names.provider, typeName(t, owner)), "}"
	}
	collection := func(suffix string) func(*definition.Type) (string, string) {
		return func(t *definition.Type) (string, string) {
			if t.Elem.Kind == definition.Object {
				return fmt.Sprintf("%s.%s%s{", e.names.provider, typeName(t.Elem, owner), suffix), "}"
			}
			return "pulumi." + goScalar(t.Elem) + suffix + "{", "}"
		}
	}
	l := &language{
		reference: func(of, name string) string { return of + "." + pascal(name) },
		scalar:    func(t *definition.Type, v any) string { return "pulumi." + goScalar(t) + "(" + plainScalar(v) + ")" },
		list:      collection("Array"), mapping: collection("Map"), object: pointer,
		attribute: func(name string) string { return upper(name) + ": " },
		key:       func(name string) string { return strconv.Quote(name) + ": " },
	}
	args := l.value(e.of.Type, e.of.Example, "")
	args = fmt.Sprintf("&%s.%sArgs{", e.names.provider, e.class()) + args[strings.IndexByte(args, '\n'):]
	text := fmt.Sprintf("%[1]s, err := %[2]s.New%[3]s(ctx, %[1]q, %[4]s)\nif err != nil {\n\treturn err\n}\n", e.variable(), e.names.provider, e.class(), args)
	if formatted, err := format.Source([]byte(text)); err == nil {
		return string(formatted)
	}
	return text
}

func goScalar(t *definition.Type) string {
	switch t.Kind {
	case definition.Bool:
		return "Bool"
	case definition.Int:
		return "Int"
	case definition.Float:
		return "Float64"
	case definition.String, definition.List, definition.Set, definition.Map, definition.Object:
	}
	return "String"
}

func inYAML(e *example) string {
	var b strings.Builder
	fmt.Fprintf(&b, "resources:\n  %s:\n    type: %s:%s\n    properties:\n", e.variable(), e.names.provider, e.class())
	yamlObject(&b, e.of.Type, e.of.Example, "      ")
	return b.String()
}

func yamlObject(b *strings.Builder, t *definition.Type, object map[string]any, indent string) {
	for _, a := range t.Attributes {
		if v := object[a.Name]; v != nil {
			b.WriteString(indent + camel(a.Name) + ":")
			yamlValue(b, a.Type, v, indent)
		}
	}
}

func yamlValue(b *strings.Builder, t *definition.Type, v any, indent string) {
	switch v := v.(type) {
	case []any:
		b.WriteString("\n")
		for _, e := range v {
			var inner strings.Builder
			yamlValue(&inner, t.Elem, e, indent+"  ")
			b.WriteString(indent + "  - " + strings.TrimLeft(inner.String(), "\n "))
		}
	case map[string]any:
		b.WriteString("\n")
		if t.Kind == definition.Object {
			yamlObject(b, t, v, indent+"  ")
			return
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(indent + "  " + key + ":")
			yamlValue(b, t.Elem, v[key], indent+"  ")
		}
	case string:
		if parts := reference.FindStringSubmatch(v); parts != nil {
			b.WriteString(" ${" + parts[1] + "." + camel(parts[2]) + "}\n")
			return
		}
		b.WriteString(" " + strconv.Quote(v) + "\n")
	default:
		b.WriteString(" " + plainScalar(v) + "\n")
	}
}
