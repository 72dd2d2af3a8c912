package definition

import (
	"context"
	"math/big"
	"reflect"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

// drawStruct draws a struct with attributes of any kind, three levels deep.
func drawStruct(t *rapid.T, depth int, listed bool) reflect.Type {
	n := rapid.IntRange(1, 4).Draw(t, "attributes")
	fields := make([]reflect.StructField, n)
	for i := range fields {
		name := "a" + strconv.Itoa(i)
		goType, words := drawType(t, depth, listed)
		fields[i] = reflect.StructField{Name: "A" + strconv.Itoa(i), Type: goType, Tag: reflect.StructTag(`json:"` + name + `" iac:"` + words + `"`)}
	}
	return reflect.StructOf(fields)
}

func drawType(t *rapid.T, depth int, listed bool) (goType reflect.Type, words string) {
	type choice struct {
		goType reflect.Type
		words  []string
	}
	choices := []choice{
		{reflect.TypeFor[string](), []string{"", "optional", "default=x"}},
		{reflect.TypeFor[*string](), []string{"", "optional"}},
		{reflect.TypeFor[bool](), []string{"", "optional", "default=true"}},
		{reflect.TypeFor[int](), []string{"", "optional", "default=7"}},
		{reflect.TypeFor[float64](), []string{"", "optional", "default=0.5"}},
		{reflect.TypeFor[resources.Bytes](), []string{"", "optional", "default=1GiB"}},
		{reflect.TypeFor[[]string](), []string{"", "optional", "set", "optional,set"}},
		{reflect.TypeFor[[]resources.Bytes](), []string{"", "optional", "optional,set"}},
		{reflect.TypeFor[map[string]int](), []string{"", "optional"}},
		{reflect.TypeFor[[][]string](), []string{"", "optional"}},
	}
	if !listed {
		choices = append(choices, choice{reflect.TypeFor[string](), []string{"computed", "optional,computed"}})
	}
	if depth > 0 {
		inner := drawStruct(t, depth-1, listed)
		element := drawStruct(t, depth-1, true)
		choices = append(choices,
			choice{inner, []string{"", "optional"}},
			choice{reflect.PointerTo(inner), []string{"", "optional"}},
			choice{reflect.SliceOf(element), []string{"", "optional"}},
			choice{reflect.MapOf(reflect.TypeFor[string](), element), []string{"", "optional"}},
		)
	}
	c := rapid.SampledFrom(choices).Draw(t, "type")
	return c.goType, rapid.SampledFrom(c.words).Draw(t, "words")
}

// drawConfig draws what a user could write for the type.
func drawConfig(t *rapid.T, typ *Type) any {
	switch typ.Kind {
	case Bool:
		return rapid.Bool().Draw(t, "bool")
	case Int:
		return new(big.Float).SetInt64(rapid.Int64().Draw(t, "int"))
	case Float:
		return big.NewFloat(rapid.Float64Range(-1e9, 1e9).Draw(t, "float"))
	case String:
		if typ.quantity {
			return rapid.SampledFrom([]string{"1GiB", "1024MiB", "0", "0B", "3kB", "3000"}).Draw(t, "quantity")
		}
		return rapid.StringN(0, 3, -1).Draw(t, "string")
	case Object:
		object := map[string]any{}
		for _, a := range typ.Attributes {
			object[a.Name] = nil
			if !a.Block && (a.Required() || a.Optional && rapid.Bool().Draw(t, "written")) {
				object[a.Name] = drawConfig(t, a.Type)
			}
		}
		return object
	case Map:
		m := map[string]any{}
		for _, key := range rapid.SliceOfNDistinct(rapid.StringN(0, 2, -1), 0, 3, rapid.ID).Draw(t, "keys") {
			m[key] = drawConfig(t, typ.Elem)
		}
		return m
	case List, Set:
	}
	list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
	for i := range list {
		list[i] = drawConfig(t, typ.Elem)
	}
	return list
}

// defineGenerated defines a resource of a drawn struct, whose computed values
// are filled with a text.
func defineGenerated(t *rapid.T, goType reflect.Type) *Definition {
	typ, err := typeOf(goType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := typ.check("", false); err != nil {
		t.Fatal(err)
	}
	typ.Attributes = append(typ.Attributes, timeoutsBlock())
	complete := func(spec any) { completeComputed(typ, reflect.ValueOf(spec).Elem()) }
	return &Definition{Name: "drawn", Type: typ, ops: operations{
		check:  func(any) resources.Problems { return nil },
		plan:   func(context.Context, any, *planning) resources.Problems { return nil },
		create: func(_ context.Context, _, spec any) error { complete(spec); return nil },
		read:   func(context.Context, any, any) (Reading, error) { return Reading{}, nil },
		update: func(_ context.Context, _, _, spec any) error { complete(spec); return nil },
	}}
}

func completeComputed(typ *Type, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	for _, a := range typ.Attributes {
		if a.index == nil {
			continue
		}
		field := v.FieldByIndex(a.index)
		switch {
		case a.Type.Kind == Object:
			completeComputed(a.Type, field)
		case a.Computed && a.Default == nil && field.Kind() == reflect.String && field.String() == "":
			field.SetString("made")
		}
	}
}

// What is planned, applied and read back plans nothing more, whatever the
// schema and the values; and an update to other values ends the same way.
func TestPlanApplyPlanIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := defineGenerated(t, drawStruct(t, 2, false))
		first, second := drawConfig(t, d.Type), drawConfig(t, d.Type)
		state := applied(t, d, nil, first)
		state = read(t, d, state)
		settled(t, d, state, first)
		state = applied(t, d, state, second)
		state = read(t, d, state)
		settled(t, d, state, second)
	})
}

func applied(t *rapid.T, d *Definition, prior, config any) any {
	plan, problems := d.Plan(context.Background(), nil, prior, config)
	if len(problems) > 0 {
		t.Fatalf("plan: %v", problems)
	}
	var state any
	var err error
	if prior == nil {
		state, err = d.Create(context.Background(), nil, plan.Planned, config)
	} else {
		state, err = d.Update(context.Background(), nil, prior, plan.Planned, config)
	}
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return state
}

func read(t *rapid.T, d *Definition, state any) any {
	after, _, err := d.Read(context.Background(), nil, state)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if !identical(state, after) {
		t.Fatalf("a read changed the state:\n%#v\n%#v", state, after)
	}
	return after
}

func settled(t *rapid.T, d *Definition, state, config any) {
	plan, problems := d.Plan(context.Background(), nil, state, config)
	if len(problems) > 0 {
		t.Fatalf("second plan: %v", problems)
	}
	if !identical(state, plan.Planned) {
		t.Fatalf("the second plan is not empty:\n%#v\n%#v", state, plan.Planned)
	}
}

// identical compares as an engine does: to the letter.
func identical(a, b any) bool {
	switch x := a.(type) {
	case *big.Float:
		y, ok := b.(*big.Float)
		return ok && x.Cmp(y) == 0
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !identical(x[i], y[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for key := range x {
			if !identical(x[key], y[key]) {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

// The Go value of a known tree encodes to a tree of the same Go value.
func TestTreesSurviveTheirGoValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := defineGenerated(t, drawStruct(t, 2, false))
		tree := drawConfig(t, d.Type)
		spec, err := d.spec(tree)
		if err != nil {
			t.Fatal(err)
		}
		again, err := d.spec(d.encode(spec))
		if err != nil {
			t.Fatal(err)
		}
		if !d.Type.same(d.encode(spec), d.encode(again)) {
			t.Fatalf("%#v became %#v", spec, again)
		}
	})
}
