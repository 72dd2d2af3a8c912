package pulumi

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/provider/definition/definitiontest"
	"github.com/skerry-io/skerry/resources"
)

// drawProperty draws a value of the type as an engine may send it: with unknown
// and secret values anywhere.
func drawProperty(t *rapid.T, typ *definition.Type, secrets bool) resource.PropertyValue {
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		return resource.MakeComputed(resource.NewStringProperty(""))
	case 1:
		if secrets {
			return resource.MakeSecret(drawProperty(t, typ, false))
		}
	}
	switch typ.Kind {
	case definition.Bool:
		return resource.NewBoolProperty(rapid.Bool().Draw(t, "bool"))
	case definition.Int, definition.Float:
		return resource.NewNumberProperty(rapid.Float64Range(-1e15, 1e15).Draw(t, "number"))
	case definition.List, definition.Set:
		list := make([]resource.PropertyValue, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range list {
			list[i] = drawProperty(t, typ.Elem, secrets)
		}
		return resource.NewArrayProperty(list)
	case definition.Map:
		m := resource.PropertyMap{}
		for _, key := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z_.]{1,4}`), 0, 3, rapid.ID).Draw(t, "keys") {
			m[resource.PropertyKey(key)] = drawProperty(t, typ.Elem, secrets)
		}
		return resource.NewObjectProperty(m)
	case definition.Object:
		m := resource.PropertyMap{}
		for _, a := range typ.Attributes {
			if !a.Block && rapid.Bool().Draw(t, "written") {
				m[resource.PropertyKey(camel(a.Name))] = drawProperty(t, a.Type, secrets)
			}
		}
		return resource.NewObjectProperty(m)
	case definition.String:
	}
	return resource.NewStringProperty(rapid.String().Draw(t, "string"))
}

// revealed is a value without its secrets.
func revealed(v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return revealed(v.SecretValue().Element)
	case v.IsArray():
		list := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, e := range v.ArrayValue() {
			list[i] = revealed(e)
		}
		return resource.NewArrayProperty(list)
	case v.IsObject():
		m := resource.PropertyMap{}
		for key, e := range v.ObjectValue() {
			m[key] = revealed(e)
		}
		return resource.NewObjectProperty(m)
	}
	return v
}

// Every value survives the way to its tree and back, and what was secret, or is
// beside a secret in a list, still is.
func TestValuesSurviveTheirTree(t *testing.T) {
	typ := definitiontest.Provider(t, definitiontest.NewWorld()).Resources[0].Type
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawProperty(t, typ, true)
		for drawn.IsSecret() {
			drawn = drawn.SecretValue().Element
		}
		if !drawn.IsObject() {
			return // a resource is never unknown as a whole
		}
		r := receiveMap(typ, drawn.ObjectValue())
		if len(r.strange) > 0 {
			t.Fatalf("what fits is strange: %v", r.strange)
		}
		back := resource.NewObjectProperty(properties(typ, r.tree, r.secrets))
		if !revealed(back).DeepEquals(revealed(drawn)) {
			t.Fatalf("%v became %v", drawn, back)
		}
		if shown := exposed(drawn, back); shown != "" {
			t.Fatalf("%s is not secret any more: %v became %v", shown, drawn, back)
		}
		if hidden := concealed(typ, drawn); !revealed(hidden).DeepEquals(revealed(drawn)) || exposed(drawn, hidden) != "" {
			t.Fatalf("%v was concealed as %v", drawn, hidden)
		}
	})
}

// exposed finds a secret of the first value that is none in the second.
func exposed(was, is resource.PropertyValue) string {
	switch {
	case is.IsSecret():
		return ""
	case was.IsSecret() && !revealed(was).IsComputed():
		return "a value"
	case was.IsArray():
		for i, e := range was.ArrayValue() {
			if exposed(e, is.ArrayValue()[i]) != "" {
				return "an element"
			}
		}
	case was.IsObject():
		for key, e := range was.ObjectValue() {
			if exposed(e, is.ObjectValue()[key]) != "" {
				return string(key)
			}
		}
	}
	return ""
}

func TestNames(t *testing.T) {
	n := namesOf(definitiontest.Provider(t, definitiontest.NewWorld()))
	for text, want := range map[string]string{
		"see count_of and by_name":             "see countOf and byName",
		"other_words stay":                     "other_words stay",
		"timeouts.create":                      "customTimeouts.create",
		"`size` of a test_anything":            "`size` of a test.Anything",
		"`terraform import test_anything.N x`": "`pulumi import test:index:Anything N x`",
	} {
		if got := n.translate(text); got != want {
			t.Errorf("%q became %q; want %q", text, got, want)
		}
	}
	got := n.problem(resources.Problem{Path: `by_name["count_of"].size`, Reason: "is small"}).String()
	if diff := cmp.Diff(`byName["count_of"].size: is small`, got); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"a", "data_disk", "retain_on_destroy"} {
		if snake(camel(name)) != name {
			t.Errorf("%s became %s, and that %s", name, camel(name), snake(camel(name)))
		}
	}
}

// FuzzReceive takes any properties, checks them, and never panics, nor shows a
// secret.
func FuzzReceive(f *testing.F) {
	for _, text := range []string{
		`{"name":"n","size":"1GiB","inners":[{"path":"p"}],"byName":{"x":{"path":"q"}}}`, `{"name":5,"color":"red","count_of":[],"inner":"hidden"}`,
		`{"password":{"secret":"hidden"},"secret":["hidden"],"choice":null,"timeouts":{"create":"1s"}}`, `{"":{"":[{}]}}`,
	} {
		f.Add(text)
	}
	d := definitiontest.Provider(f, definitiontest.NewWorld()).Resources[0]
	names := namesOf(definitiontest.Provider(f, definitiontest.NewWorld()))
	front := &front{names: names}
	f.Fuzz(func(t *testing.T, text string) {
		var plain map[string]any
		if json.Unmarshal([]byte(text), &plain) != nil {
			return
		}
		m := resource.NewPropertyMapFromMap(plain)
		m["secret"] = resource.MakeSecret(resource.NewStringProperty("a secret that nobody guesses"))
		r := receiveMap(d.Type, m)
		for _, failure := range front.failures(r, d.Validate(r.tree)) {
			if strings.Contains(failure.Reason, "nobody guesses") {
				t.Errorf("a secret is shown: %s", failure.Reason)
			}
		}
		back := properties(d.Type, r.tree, r.secrets)
		if v, there := back["secret"]; there && !v.IsSecret() {
			t.Errorf("a secret is in the open: %v", back)
		}
	})
}

// A number of the wire is as exact as a number of the tree.
func TestNumbersAreExact(t *testing.T) {
	r := receiveMap(&definition.Type{Kind: definition.Map, Elem: &definition.Type{Kind: definition.Int}}, resource.NewPropertyMapFromMap(map[string]any{"a": 9007199254740991.0}))
	if n, accuracy := r.tree["a"].(*big.Float).Int64(); n != 9007199254740991 || accuracy != big.Exact {
		t.Error(n, accuracy)
	}
}
