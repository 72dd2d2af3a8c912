package definition

import (
	"context"
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

// blur makes values of a tree unknown, at any depth.
func blur(t *rapid.T, tree any) any {
	if tree != nil && rapid.IntRange(0, 4).Draw(t, "blur") == 0 {
		return Unknown{}
	}
	switch v := tree.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = blur(t, v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for _, key := range sortedKeys(v) {
			m[key] = blur(t, v[key])
		}
		return m
	default:
		return tree
	}
}

// What is unknown at first may stand anywhere: the plan holds nothing known
// that the plan with the values contradicts, as the engine would find.
func TestAPlanKeepsItsWordOnceAllIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := defineGenerated(t, drawStruct(t, 2, false))
		var prior any
		if rapid.Bool().Draw(t, "update") {
			prior = applied(t, d, nil, drawConfig(t, d.Type))
		}
		config := drawConfig(t, d.Type)
		blurred := blur(t, config)
		if _, whole := blurred.(Unknown); whole {
			return // a resource is never unknown as a whole
		}
		if problems := d.Validate(blurred); len(problems) > 0 {
			t.Fatalf("unknown values have problems: %v", problems)
		}
		first, problems := d.Plan(context.Background(), nil, prior, blurred)
		if len(problems) > 0 {
			t.Fatalf("plan with unknown values: %v", problems)
		}
		second, problems := d.Plan(context.Background(), nil, prior, config)
		if len(problems) > 0 {
			t.Fatalf("plan: %v", problems)
		}
		if !d.Type.keeps(first.Planned, second.Planned) {
			t.Fatalf("planned\n%#v\nbut then\n%#v", first.Planned, second.Planned)
		}
	})
}

// keeps is true where the second plan has the known values of the first one.
// Sets are compared as a whole, when all of it is known. Lists and maps of
// scalars are compared by value: one that turns out to be the prior one takes
// back its spelling as a whole, since an engine accepts no mixture of the two.
// Where an element was both spelled anew and beside an unknown one, Terraform
// therefore stops the apply, and the next one settles it.
func (t *Type) keeps(first, second any) bool {
	if _, unknown := first.(Unknown); unknown {
		return true
	}
	switch f := first.(type) {
	case []any:
		s, ok := second.([]any)
		if t.Kind == Set {
			return ok && (slices.ContainsFunc(f, isUnknown) || t.equal(first, second))
		}
		return ok && slices.EqualFunc(f, s, t.Elem.keepsElement)
	case map[string]any:
		s, ok := second.(map[string]any)
		if t.Kind == Map {
			return ok && maps.EqualFunc(f, s, t.Elem.keepsElement)
		}
		return ok && !slices.ContainsFunc(t.Attributes, func(a *Attribute) bool { return !a.Type.keeps(f[a.Name], s[a.Name]) })
	default:
		return identical(first, second)
	}
}

func (t *Type) keepsElement(first, second any) bool {
	return t.keeps(first, second) || t.quantity && t.equal(first, second)
}

func isUnknown(v any) bool { return v == Unknown{} }

// Each unknown value of a create is filled in from what was made.
func TestACreateFillsInWhatWasUnknown(t *testing.T) {
	type inner struct {
		Name string          `json:"name" iac:"optional"`
		Size resources.Bytes `json:"size" iac:"default=1MiB"`
	}
	type spec struct {
		ID    string           `json:"id" iac:"computed"`
		Whole inner            `json:"whole" iac:"optional"`
		List  []inner          `json:"list" iac:"optional"`
		Map   map[string]inner `json:"map" iac:"optional"`
		Set   []string         `json:"set" iac:"optional,set"`
	}
	d := defineWith(t, Resource[any, spec]{Create: func(_ context.Context, _ any, s *spec) error {
		*s = spec{
			ID: "i", Whole: inner{Name: "w", Size: 1}, List: []inner{{"a", 1}, {"b", 2}}, Map: map[string]inner{"k": {"m", 3}}, Set: []string{"x", "y"},
		}
		return nil
	}})
	written := object{
		"whole": Unknown{}, "list": []any{object{"name": Unknown{}}, Unknown{}}, "map": object{"k": object{"name": "n", "size": Unknown{}}}, "set": []any{"x", Unknown{}},
	}
	plan, problems := d.Plan(t.Context(), nil, nil, written)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	state, err := d.Create(t.Context(), struct{}{}, plan.Planned, written)
	if err != nil {
		t.Fatal(err)
	}
	want := object{
		"id": "i", "whole": object{"name": "w", "size": "1B"}, "timeouts": nil, "set": []any{"x", "y"},
		"list": []any{object{"name": "a", "size": "1MiB"}, object{"name": "b", "size": "2B"}}, "map": object{"k": object{"name": "n", "size": "3B"}},
	}
	if !identical(want, state) {
		t.Errorf("state is\n%#v\nwant\n%#v", state, want)
	}
}

type quantities struct {
	Size   resources.Bytes               `json:"size" iac:"optional"`
	CPU    *resources.MilliCPU           `json:"cpu" iac:"optional"`
	Time   resources.Duration            `json:"time" iac:"default=10s"`
	List   []resources.Bytes             `json:"list" iac:"optional"`
	Set    []resources.MilliCPU          `json:"set" iac:"optional,set"`
	Map    map[string]resources.Duration `json:"map" iac:"optional"`
	Port   uint16                        `json:"port" iac:"optional"`
	Count  int                           `json:"count_of" iac:"optional"`
	Ratio  float64                       `json:"ratio" iac:"optional"`
	On     *bool                         `json:"on" iac:"optional"`
	Secret resources.Bytes               `json:"secret" iac:"optional,sensitive"`
	Inner  []struct {
		Size resources.Bytes `json:"size"`
	} `json:"inner" iac:"optional"`
}

// FuzzDecode decodes any tree, of any shape, and never panics. One without
// problems is settled once it is planned.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"size":"1GiB","cpu":"250m","time":"1h","list":["1kB"],"set":["1","1000m"],"map":{"a":"1s"},"inner":[{"size":"0"}]}`,
		`{"size":"much","port":65536,"count_of":0.5,"ratio":1e400,"on":null,"inner":[null,{}],"secret":"hush","time":{"?":0}}`,
		`{"size":{"?":0},"list":{"?":0},"set":["1",{"?":0}],"map":[],"inner":{"a":{"size":"1B"}}}`, `[]`, `null`, `1`,
	} {
		f.Add(text)
	}
	typ, err := typeOf(reflect.TypeFor[quantities](), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var raw any
		if json.Unmarshal([]byte(text), &raw) != nil {
			return
		}
		tree := treeOfJSON(raw)
		spec := new(quantities)
		found := typ.decode(tree, reflect.ValueOf(spec).Elem(), "")
		missing := typ.missing(tree, "")
		for _, p := range append(found.problems, missing...) {
			if p.Path == "secret" && p.Reason != "is not a value that fits, and is too sensitive to say more" {
				t.Errorf("a secret is shown: %s", p)
			}
		}
		if _, isObject := tree.(map[string]any); !isObject || len(found.problems)+len(missing) > 0 {
			return
		}
		planned := typ.plan(nil, tree)
		if again := typ.plan(planned, tree); !identical(planned, again) {
			t.Errorf("%s is planned as %#v, and then as %#v", text, planned, again)
		}
		encoded := typ.encode(reflect.ValueOf(spec))
		again := new(quantities)
		if found := typ.decode(encoded, reflect.ValueOf(again).Elem(), ""); len(found.problems) > 0 || !identical(encoded, typ.encode(reflect.ValueOf(again))) {
			t.Errorf("%s became %#v, and that %#v", text, encoded, again)
		}
	})
}

// treeOfJSON gives the tree of a JSON value, in which {"?": ...} is unknown.
func treeOfJSON(v any) any {
	switch v := v.(type) {
	case float64:
		return big.NewFloat(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = treeOfJSON(v[i])
		}
		return list
	case map[string]any:
		if _, unknown := v["?"]; unknown && len(v) == 1 {
			return Unknown{}
		}
		m := make(map[string]any, len(v))
		for key := range v {
			m[key] = treeOfJSON(v[key])
		}
		return m
	default:
		return v
	}
}
