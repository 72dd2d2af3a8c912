package definition

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
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

// decode writes tree v into dst, which is settable. Unknown values are left at
// zero, and their paths go to unknown where it is not nil. Errors name the
// path, and never the value.
func (t *Type) decode(v any, dst reflect.Value, path string, unknown *[]string) error {
	switch v.(type) {
	case Unknown:
		if unknown != nil {
			*unknown = append(*unknown, path)
		}
		return nil
	case nil:
		return nil
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch t.Kind {
	case Object:
		return t.decodeObject(v, dst, path, unknown)
	case List, Set, Map:
		return t.decodeCollection(v, dst, path, unknown)
	default:
		if err := t.decodeScalar(v, dst); err != nil {
			return &valueError{path, err}
		}
		return nil
	}
}

// valueError is a value that does not fit its attribute.
type valueError struct {
	path string
	err  error
}

func (e *valueError) Error() string { return e.path + ": " + e.err.Error() }
func (e *valueError) Unwrap() error { return e.err }

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
	return fmt.Errorf("a value of this kind can't be a %s", t.goType)
}

func decodeInt(v *big.Float, dst reflect.Value) error {
	n, accuracy := v.Int64()
	if accuracy != big.Exact {
		return fmt.Errorf("it is not a whole number of 64 bits")
	}
	if dst.CanUint() {
		if n < 0 || dst.OverflowUint(uint64(n)) {
			return fmt.Errorf("it is out of range")
		}
		dst.SetUint(uint64(n))
		return nil
	}
	if dst.OverflowInt(n) {
		return fmt.Errorf("it is out of range")
	}
	dst.SetInt(n)
	return nil
}

func (t *Type) decodeObject(v any, dst reflect.Value, path string, unknown *[]string) error {
	object, ok := v.(map[string]any)
	if !ok {
		return &valueError{path, fmt.Errorf("it is not an object")}
	}
	for _, a := range t.Attributes {
		if a.index == nil {
			continue
		}
		if err := a.Type.decode(object[a.Name], dst.FieldByIndex(a.index), join(path, a.Name), unknown); err != nil {
			return err
		}
	}
	return nil
}

func (t *Type) decodeCollection(v any, dst reflect.Value, path string, unknown *[]string) error {
	switch v := v.(type) {
	case []any:
		if t.Kind == Map {
			break
		}
		dst.Set(reflect.MakeSlice(dst.Type(), len(v), len(v)))
		for i, e := range v {
			if err := t.Elem.decode(e, dst.Index(i), fmt.Sprintf("%s[%d]", path, i), unknown); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if t.Kind != Map {
			break
		}
		dst.Set(reflect.MakeMapWithSize(dst.Type(), len(v)))
		for _, key := range sortedKeys(v) {
			elem := reflect.New(dst.Type().Elem()).Elem()
			if err := t.Elem.decode(v[key], elem, fmt.Sprintf("%s[%q]", path, key), unknown); err != nil {
				return err
			}
			dst.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), elem)
		}
		return nil
	}
	return &valueError{path, fmt.Errorf("it is not a %s", t.goType)}
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
	default:
		return t.encodeObject(src)
	}
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
	case Object:
		x, y := a.(map[string]any), b.(map[string]any)
		for _, attribute := range t.Attributes {
			if !attribute.Type.equal(x[attribute.Name], y[attribute.Name]) {
				return false
			}
		}
		return true
	case Map:
		x, y := a.(map[string]any), b.(map[string]any)
		for key := range x {
			if _, found := y[key]; !found || !t.Elem.equal(x[key], y[key]) {
				return false
			}
		}
		return len(x) == len(y)
	case List:
		x, y := a.([]any), b.([]any)
		for i := range min(len(x), len(y)) {
			if !t.Elem.equal(x[i], y[i]) {
				return false
			}
		}
		return len(x) == len(y)
	case Set:
		x, y := a.([]any), b.([]any)
		return t.within(x, y) && t.within(y, x)
	default:
		return t.equalScalar(a, b)
	}
}

// within is true where every element of the set x is in y.
func (t *Type) within(x, y []any) bool {
	for _, e := range x {
		found := false
		for _, f := range y {
			found = found || t.Elem.equal(e, f)
		}
		if !found {
			return false
		}
	}
	return true
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
	return t.decode(a, x, "", nil) == nil && t.decode(b, y, "", nil) == nil && reflect.DeepEqual(x.Interface(), y.Interface())
}

// hidden drops problems at, under or above a path whose value is unknown: they
// say nothing yet.
func hidden(problems resources.Problems, unknown []string) resources.Problems {
	var shown resources.Problems
	for _, problem := range problems {
		known := true
		for _, path := range unknown {
			known = known && !under(problem.Path, path) && !under(path, problem.Path)
		}
		if known {
			shown = append(shown, problem)
		}
	}
	return shown
}

// under is true where path is at or within root.
func under(path, root string) bool {
	rest, found := strings.CutPrefix(path, root)
	return found && (root == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}
