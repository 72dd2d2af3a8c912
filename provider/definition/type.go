package definition

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Kind says which shape a value has.
type Kind int

// The kinds of a Type.
const (
	Bool   Kind = iota
	Int         // a whole number of 64 bits
	Float       // a number
	String      // a text, or a quantity that is written as one
	List        // values in an order
	Set         // scalars without an order
	Map         // values by name
	Object      // attributes
)

// Type is the shape of a value, as reflected from a Go type.
type Type struct {
	Kind Kind
	// Elem is the type of each element of a List, Set or Map.
	Elem *Type
	// Attributes of an Object, in the order of its fields.
	Attributes []*Attribute

	goType   reflect.Type
	quantity bool // a String that the Go type reads and writes by itself
}

// GoName is the name of the Go type, or empty where it has none.
func (t *Type) GoName() string { return t.goType.Name() }

// Attribute is one attribute of an object.
type Attribute struct {
	// Name in HCL, JSON, logs and errors.
	Name string
	// Doc is the doc comment of the Go field.
	Doc  string
	Type *Type
	// Optional attributes may be left out; Computed ones are filled in when
	// they were. Neither means required.
	Optional, Computed bool
	// Replace makes a change of the attribute replace the resource.
	Replace bool
	// Sensitive hides the value wherever people look.
	Sensitive bool
	// WriteOnly values reach Create and Update, and are never kept.
	WriteOnly bool
	// Version names the attribute whose change sends a write-only value again.
	Version string
	// Volatile computed values may change with any update.
	Volatile bool
	// Default is the value of an attribute that was left out, or nil.
	Default any
	// Block marks the one attribute that HCL writes as a block: timeouts.
	Block bool

	index []int // of the Go field
}

// Required is true where the user has to write the attribute.
func (a *Attribute) Required() bool { return !a.Optional && !a.Computed }

// Written is true where users may write the attribute.
func (a *Attribute) Written() bool { return !a.Block && (a.Optional || !a.Computed) }

// Attribute returns the attribute of that name, or nil.
func (t *Type) Attribute(name string) *Attribute {
	i := slices.IndexFunc(t.Attributes, func(a *Attribute) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return t.Attributes[i]
}

var (
	marshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// kinds gives the kind of each kind of Go type that can be served.
var kinds = map[reflect.Kind]Kind{
	reflect.Bool: Bool, reflect.Int: Int, reflect.Int64: Int, reflect.Int32: Int, reflect.Uint16: Int, reflect.Float64: Float,
	reflect.String: String, reflect.Slice: List, reflect.Map: Map, reflect.Struct: Object,
}

// typeOf reflects a Go type. A type that can't be served is an error that
// names the field.
func typeOf(goType reflect.Type, docs map[string]string) (*Type, error) {
	return reflection{docs: docs}.typeOf(goType)
}

// reflection is a walk through a Go type.
type reflection struct {
	docs   map[string]string
	within []reflect.Type // the structs on the way
}

func (r reflection) typeOf(goType reflect.Type) (*Type, error) {
	if goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	t := &Type{goType: goType}
	if goType.Implements(marshalerType) && reflect.PointerTo(goType).Implements(unmarshalerType) {
		t.Kind, t.quantity = String, true
		return t, nil
	}
	kind, served := kinds[goType.Kind()]
	if !served {
		return nil, fmt.Errorf("%s: a value of this kind can't be an attribute", goType)
	}
	t.Kind = kind
	if kind == Object {
		if slices.Contains(r.within, goType) {
			return nil, fmt.Errorf("%s: an object can't hold itself", goType)
		}
		r.within = append(slices.Clone(r.within), goType)
		return t, r.addAttributes(t, goType, nil)
	}
	if kind == Map && goType.Key().Kind() != reflect.String {
		return nil, fmt.Errorf("%s: the keys of a map are strings", goType)
	}
	if t.Kind == List || t.Kind == Map {
		elem, err := r.typeOf(goType.Elem())
		if err != nil {
			return nil, err
		}
		t.Elem = elem
	}
	return t, nil
}

func (r reflection) addAttributes(t *Type, goType reflect.Type, index []int) error {
	for i := range goType.NumField() {
		field := goType.Field(i)
		at := append(slices.Clone(index), i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" {
			if field.Type.Kind() != reflect.Struct {
				return fmt.Errorf("%s.%s: only structs are embedded, and not by pointer", goType, field.Name)
			}
			if err := r.addAttributes(t, field.Type, at); err != nil {
				return err
			}
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		attribute, err := r.attribute(name, field)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", goType, field.Name, err)
		}
		if t.Attribute(name) != nil {
			return fmt.Errorf("%s.%s: the name %q is taken", goType, field.Name, name)
		}
		attribute.index = at
		attribute.Doc = r.docs[goType.Name()+"."+field.Name]
		t.Attributes = append(t.Attributes, attribute)
	}
	return nil
}

var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func (r reflection) attribute(name string, field reflect.StructField) (*Attribute, error) {
	if !field.IsExported() {
		return nil, errors.New("the field of an attribute is exported")
	}
	if !attributeName.MatchString(name) {
		return nil, fmt.Errorf("the name %q has other characters than lower-case letters, digits and _", name)
	}
	typ, err := r.typeOf(field.Type)
	if err != nil {
		return nil, err
	}
	a := &Attribute{Name: name, Type: typ}
	tag := field.Tag.Get("iac")
	if tag == "" {
		return a, nil
	}
	var seen []string
	for word := range strings.SplitSeq(tag, ",") {
		key, value, valued := strings.Cut(word, "=")
		switch {
		case slices.Contains(seen, key):
			return nil, fmt.Errorf("the iac tag has the word %q twice", key)
		case valued != (key == "default" || key == "version"):
			return nil, fmt.Errorf("the iac tag has %q: default and version have a value, and no other word has", word)
		}
		seen = append(seen, key)
		if err := a.apply(key, value); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// apply carries out one word of the iac tag.
func (a *Attribute) apply(key, value string) error {
	switch key {
	case "optional":
		a.Optional = true
	case "computed":
		a.Computed = true
	case "replace":
		a.Replace = true
	case "sensitive":
		a.Sensitive = true
	case "writeonly":
		a.WriteOnly, a.Sensitive = true, true
	case "version":
		a.Version = value
	case "volatile":
		a.Computed, a.Volatile = true, true
	case "set":
		if a.Type.Kind != List {
			return fmt.Errorf("%s can't be a set", a.Type.one())
		}
		a.Type.Kind = Set
	case "default":
		v, err := a.Type.parse(value)
		if err != nil {
			return fmt.Errorf("default: %w", err)
		}
		a.Optional, a.Computed, a.Default = true, true, v
	default:
		return fmt.Errorf("the iac tag has an unknown word %q", key)
	}
	return nil
}

// parse reads a scalar from the text of a tag.
func (t *Type) parse(text string) (any, error) {
	var v any
	switch t.Kind {
	case Bool:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		v = text == "true"
	case Int, Float:
		f, ok := new(big.Float).SetString(text)
		if !ok {
			return nil, fmt.Errorf("%q is not a number", text)
		}
		v = f
	case String:
		v = text
	case List, Set, Map, Object:
		return nil, fmt.Errorf("%s has no default", t.one())
	}
	return v, t.decodeScalar(v, reflect.New(t.goType).Elem())
}

// check refuses what the plugins can't keep true; see the package comment.
func (t *Type) check(path string, listed bool) error {
	switch t.Kind {
	case Object:
		for _, a := range t.Attributes {
			if err := a.check(t, join(path, a.Name), listed); err != nil {
				return err
			}
		}
	case List, Map:
		if t.Elem.Kind == Object {
			return t.Elem.check(path+"[]", true)
		}
		if holdsObject(t.Elem) {
			return fmt.Errorf("%s: objects stand in a list or map directly, not in a list of lists", path)
		}
	case Set:
		if t.Elem.Kind > String {
			return fmt.Errorf("%s: a set holds scalars, because what is in an object of a set can't be followed from plan to state", path)
		}
	case Bool, Int, Float, String:
	}
	return nil
}

func (a *Attribute) check(of *Type, path string, listed bool) error {
	version := of.Attribute(a.Version)
	switch {
	case listed && a.Computed && a.Default == nil:
		return fmt.Errorf("%s: a computed value in a list that the user writes has no place to be filled in", path)
	case a.Sensitive && a.Type.Kind == Set:
		return fmt.Errorf("%s: a set can't be sensitive, because its elements are shown to name them", path)
	case a.WriteOnly && a.Computed:
		return fmt.Errorf("%s: a write-only value is never computed", path)
	case a.WriteOnly && a.Replace:
		return fmt.Errorf("%s: a change of a write-only value can't be seen, so it can't replace anything; its version can", path)
	case a.WriteOnly && holdsObject(a.Type):
		return fmt.Errorf("%s: an object can't be write-only; the values in it can", path)
	case a.WriteOnly && a.Version == "":
		return fmt.Errorf("%s: a write-only value names the attribute that is its version", path)
	case !a.WriteOnly && a.Version != "":
		return fmt.Errorf("%s: only a write-only value has a version", path)
	case a.WriteOnly && (version == nil || version.WriteOnly || version.Type.Kind > String):
		return fmt.Errorf("%s: its version %q is no attribute beside it that holds a scalar", path, a.Version)
	case a.Volatile && (a.Optional || a.Replace):
		return fmt.Errorf("%s: a volatile value is the plugin's alone, so it is neither optional nor a reason to replace", path)
	case a.Volatile && path != a.Name:
		return fmt.Errorf("%s: only an attribute of the resource itself can be volatile", path)
	}
	return a.Type.check(path, listed)
}

func holdsObject(t *Type) bool {
	return t != nil && (t.Kind == Object || holdsObject(t.Elem))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// at and under give the paths of what is in a list and in a map.
func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func under(path, key string) string { return fmt.Sprintf("%s[%q]", path, key) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
