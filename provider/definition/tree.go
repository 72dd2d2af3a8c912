package definition

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// A tree holds any value in neutral form, between the wire of a front-end and
// the Go struct of a resource:
//
//	nil              null
//	bool             a Bool
//	*big.Float       an Int or a Float
//	string           a String, quantities included
//	[]any            a List or a Set
//	map[string]any   a Map or an Object
//	Unknown{}        what is not known yet
//
// Trees are values: no function of this package changes one that it was given.

// Unknown stands for a value that is not known before the apply.
type Unknown struct{}

// decoded is what a decode came across.
type decoded struct {
	// unknown holds the paths whose values are not known.
	unknown []string
	// problems holds the values that don't fit. They name the path; the value
	// only where it may be seen.
	problems resources.Problems
}

// doubtful lists the paths whose Go value says nothing.
func (d *decoded) doubtful() []string {
	paths := slices.Clone(d.unknown)
	for _, p := range d.problems {
		paths = append(paths, p.Path)
	}
	return paths
}

// decode writes tree v into dst, which is settable. What is unknown or does not
// fit is left at zero.
func (t *Type) decode(v any, dst reflect.Value, path string) decoded {
	var d decoded
	d.value(t, v, dst, path)
	return d
}

func (d *decoded) value(t *Type, v any, dst reflect.Value, path string) {
	switch v.(type) {
	case Unknown:
		d.unknown = append(d.unknown, path)
		return
	case nil:
		return
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch t.Kind {
	case Object:
		d.object(t, v, dst, path)
	case List, Set, Map:
		d.collection(t, v, dst, path)
	case Bool, Int, Float, String:
		if err := t.decodeScalar(v, dst); err != nil {
			d.problems.Addf(path, "%v", err)
		}
	}
}

func (d *decoded) object(t *Type, v any, dst reflect.Value, path string) {
	object, ok := v.(map[string]any)
	if !ok {
		d.problems.Addf(path, "is not an object")
		return
	}
	for _, a := range t.Attributes {
		if a.index == nil {
			continue
		}
		before := len(d.problems)
		d.value(a.Type, object[a.Name], dst.FieldByIndex(a.index), join(path, a.Name))
		if !a.Sensitive {
			continue
		}
		for i := range d.problems[before:] {
			d.problems[before+i].Reason = "is not a value that fits, and is too sensitive to say more"
		}
	}
}

func (d *decoded) collection(t *Type, v any, dst reflect.Value, path string) {
	switch v := v.(type) {
	case []any:
		if t.Kind == Map {
			break
		}
		dst.Set(reflect.MakeSlice(dst.Type(), len(v), len(v)))
		for i, e := range v {
			d.value(t.Elem, e, dst.Index(i), at(path, i))
		}
		return
	case map[string]any:
		if t.Kind != Map {
			break
		}
		dst.Set(reflect.MakeMapWithSize(dst.Type(), len(v)))
		for _, key := range sortedKeys(v) {
			elem := reflect.New(dst.Type().Elem()).Elem()
			d.value(t.Elem, v[key], elem, under(path, key))
			dst.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), elem)
		}
		return
	}
	d.problems.Addf(path, "is not %s", t.one())
}

func (t *Type) decodeScalar(v any, dst reflect.Value) error {
	switch v := v.(type) {
	case bool:
		if t.Kind == Bool {
			dst.SetBool(v)
			return nil
		}
	case string:
		if t.quantity {
			return dst.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(v))
		}
		if t.Kind == String {
			dst.SetString(v)
			return nil
		}
	case *big.Float:
		if t.Kind == Float {
			f, _ := v.Float64()
			dst.SetFloat(f)
			return nil
		}
		if t.Kind == Int {
			return decodeInt(v, dst)
		}
	}
	return fmt.Errorf("is not %s", t.one())
}

func decodeInt(v *big.Float, dst reflect.Value) error {
	n, accuracy := v.Int64()
	if accuracy != big.Exact {
		return errors.New("is not a whole number of 64 bits")
	}
	if dst.CanUint() {
		if n < 0 || dst.OverflowUint(uint64(n)) {
			return fmt.Errorf("is out of range; give 0 to %d", uint64(1)<<dst.Type().Bits()-1)
		}
		dst.SetUint(uint64(n))
		return nil
	}
	if dst.OverflowInt(n) {
		return fmt.Errorf("is out of range; give at most %d", int64(1)<<(dst.Type().Bits()-1)-1)
	}
	dst.SetInt(n)
	return nil
}

// missing returns a problem for each value that the user has to write and
// didn't. The engines check the outer ones, but none checks them all.
func (t *Type) missing(written any, path string) resources.Problems {
	var p resources.Problems
	switch t.Kind {
	case Object:
		object, isObject := written.(map[string]any)
		if !isObject {
			return nil
		}
		for _, a := range t.Attributes {
			if a.Required() && object[a.Name] == nil {
				p.Addf(join(path, a.Name), "is missing; it is required")
			}
			p = append(p, a.Type.missing(object[a.Name], join(path, a.Name))...)
		}
	case List:
		list, _ := written.([]any)
		for i, e := range list {
			p = append(p, t.Elem.missingElement(e, at(path, i))...)
		}
	case Map:
		m, _ := written.(map[string]any)
		for _, key := range sortedKeys(m) {
			p = append(p, t.Elem.missingElement(m[key], under(path, key))...)
		}
	case Bool, Int, Float, String, Set:
	}
	return p
}

func (t *Type) missingElement(written any, path string) resources.Problems {
	if t.Kind == Object && written == nil {
		return resources.Problems{{Path: path, Reason: "is null; write an object, or leave it out"}}
	}
	return t.missing(written, path)
}

// encode is the inverse of decode. The zero value of an attribute that the user
// may leave out, and that has no default, becomes null.
func (t *Type) encode(src reflect.Value) any {
	if src.Kind() == reflect.Pointer {
		if src.IsNil() {
			return nil
		}
		src = src.Elem()
	}
	switch t.Kind {
	case Bool:
		return src.Bool()
	case Int:
		if src.CanUint() {
			return new(big.Float).SetUint64(src.Uint())
		}
		return new(big.Float).SetInt64(src.Int())
	case Float:
		return big.NewFloat(src.Float())
	case String:
		return t.encodeText(src)
	case List, Set:
		if src.IsNil() {
			return nil
		}
		list := make([]any, src.Len())
		for i := range list {
			list[i] = t.Elem.encode(src.Index(i))
		}
		return list
	case Map:
		if src.IsNil() {
			return nil
		}
		m := make(map[string]any, src.Len())
		for it := src.MapRange(); it.Next(); {
			m[it.Key().String()] = t.Elem.encode(it.Value())
		}
		return m
	case Object:
	}
	return t.encodeObject(src)
}

func (t *Type) encodeText(src reflect.Value) any {
	if !t.quantity {
		return src.String()
	}
	text, err := src.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		panic(fmt.Sprintf("write a %s as text: %v", t.goType, err)) // quantities always have a text
	}
	return string(text)
}

func (t *Type) encodeObject(src reflect.Value) any {
	object := make(map[string]any, len(t.Attributes))
	for _, a := range t.Attributes {
		if a.index == nil || a.WriteOnly {
			object[a.Name] = nil
			continue
		}
		field := src.FieldByIndex(a.index)
		if a.Optional && a.Default == nil && isZero(field) {
			object[a.Name] = nil
			continue
		}
		object[a.Name] = a.Type.encode(field)
	}
	return object
}

func isZero(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}

// equal compares two known trees by value: "1GiB" is "1024MiB", and sets have
// no order. Unknown values equal nothing.
func (t *Type) equal(a, b any) bool {
	if _, unknown := a.(Unknown); unknown {
		return false
	}
	if _, unknown := b.(Unknown); unknown {
		return false
	}
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	switch t.Kind {
	case Object, Map:
		x, okX := a.(map[string]any)
		y, okY := b.(map[string]any)
		return okX && okY && t.equalMembers(x, y)
	case List:
		x, okX := a.([]any)
		y, okY := b.([]any)
		return okX && okY && slices.EqualFunc(x, y, t.Elem.equal)
	case Set:
		x, okX := a.([]any)
		y, okY := b.([]any)
		return okX && okY && t.subset(x, y) && t.subset(y, x)
	case Bool, Int, Float, String:
	}
	return t.equalScalar(a, b)
}

// equalMembers compares maps, or the attributes of objects.
func (t *Type) equalMembers(x, y map[string]any) bool {
	if t.Kind == Map {
		return maps.EqualFunc(x, y, t.Elem.equal)
	}
	return !slices.ContainsFunc(t.Attributes, func(a *Attribute) bool { return !a.Type.equal(x[a.Name], y[a.Name]) })
}

// subset is true where every element of the set x is in y.
func (t *Type) subset(x, y []any) bool {
	return !slices.ContainsFunc(x, func(e any) bool {
		return !slices.ContainsFunc(y, func(f any) bool { return t.Elem.equal(e, f) })
	})
}

func (t *Type) equalScalar(a, b any) bool {
	if x, ok := a.(*big.Float); ok {
		y, ok := b.(*big.Float)
		if ok && t.Kind == Float { // the wire has more digits than the Go value
			f, _ := x.Float64()
			g, _ := y.Float64()
			return f == g
		}
		return ok && x.Cmp(y) == 0
	}
	if a == b || !t.quantity {
		return a == b
	}
	x, y := reflect.New(t.goType).Elem(), reflect.New(t.goType).Elem()
	return len(t.decode(a, x, "").problems)+len(t.decode(b, y, "").problems) == 0 && reflect.DeepEqual(x.Interface(), y.Interface())
}

// hidden drops problems at, under or above a path whose value is unknown: they
// say nothing yet.
func hidden(problems resources.Problems, unknown []string) resources.Problems {
	var shown resources.Problems
	for _, problem := range problems {
		known := true
		for _, path := range unknown {
			known = known && !within(problem.Path, path) && !within(path, problem.Path)
		}
		if known {
			shown = append(shown, problem)
		}
	}
	return shown
}

// within is true where path is at or within root.
func within(path, root string) bool {
	rest, found := strings.CutPrefix(path, root)
	return found && (root == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}
