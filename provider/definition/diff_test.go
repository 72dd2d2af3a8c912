package definition

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// described gives changes as texts: + or - or ~, ! for what replaces, the path.
func described(changes []Change) []string {
	var all []string
	for _, c := range changes {
		var b strings.Builder
		b.WriteString([]string{"+", "-", "~"}[c.Kind])
		if c.Replace {
			b.WriteString("!")
		}
		for _, step := range c.Path {
			switch step := step.(type) {
			case *Attribute:
				b.WriteString(" " + step.Name)
			default:
				fmt.Fprintf(&b, " %v", step)
			}
		}
		all = append(all, b.String())
	}
	return all
}

func TestChangesNameTheirPaths(t *testing.T) {
	d := define[nest](t)
	one := func(free, size any) object { return object{"free": free, "size": size} }
	for name, c := range map[string]struct {
		prior, written object
		want           []string
	}{
		"nothing":               {object{"plain": "a"}, object{"plain": "a"}, nil},
		"a value":               {object{"plain": "a"}, object{"plain": "b"}, []string{"~ plain"}},
		"a new value":           {object{}, object{"plain": "b"}, []string{"+ plain"}},
		"no value":              {object{"plain": "a"}, object{}, []string{"- plain"}},
		"within a pinned one":   {object{"pinned": one("a", nil)}, object{"pinned": one("b", nil)}, []string{"~! pinned free"}},
		"within a list":         {object{"list": []any{one("a", "1B"), one("b", "1B")}}, object{"list": []any{one("a", "1B"), one("c", "2B")}}, []string{"~ list 1 free", "~! list 1 size"}},
		"an element more":       {object{"list": []any{one("a", "1B")}}, object{"list": []any{one("a", "1B"), one("b", nil)}}, []string{"+ list 1"}},
		"a pinned element less": {object{"list": []any{one("a", "1B")}}, object{"list": []any{}}, []string{"-! list 0"}},
		"within a map":          {object{"map": object{"x": object{"items": []any{one("a", nil)}}}}, object{"map": object{"x": object{"items": []any{one("b", nil)}}, "y": object{}}}, []string{"~ map x items 0 free", "+ map y"}},
		"words":                 {object{"words": []any{"a", "b"}}, object{"words": []any{"a", "c", "d"}}, []string{"~! words 1", "+! words 2"}},
		"what is unknown":       {object{"one": one("a", "1B")}, object{"one": Unknown{}}, []string{"~ one"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, problems := d.Plan(t.Context(), nil, d.Type.plan(nil, c.prior), c.written)
			if diff := cmp.Diff(c.want, described(plan.Changes)); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got)\n%s", problems, diff)
			}
		})
	}
}

// What is written only is compared with what was written before, where an
// engine keeps that.
func TestRewritten(t *testing.T) {
	d := define[changing](t)
	state := d.Type.plan(nil, object{"name": "n", "rotation": number(1)}).(map[string]any)
	for name, c := range map[string]struct {
		before any
		word   any
		want   []string
	}{
		"before is not kept":  {nil, "new", nil},
		"none was written":    {object{"name": "n"}, "new", nil},
		"the same":            {object{"password": "old"}, "old", nil},
		"another":             {object{"password": "old"}, "new", []string{"~ password"}},
		"one that is unknown": {object{"password": "old"}, Unknown{}, []string{"~ password"}},
		"none any more":       {object{"password": "old"}, nil, []string{"- password"}},
	} {
		t.Run(name, func(t *testing.T) {
			prior := object{"name": "n", "id": "i", "guess": "g", "version_of": number(1), "rotation": number(1)}
			plan, problems := d.PlanAfter(t.Context(), nil, prior, c.before, object{"name": "n", "rotation": number(1), "password": c.word})
			if diff := cmp.Diff(c.want, described(plan.Changes)); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got)\n%s", problems, diff)
			}
			planned := plan.Planned.(map[string]any)
			if _, unknown := planned["version_of"].(Unknown); unknown != (c.want != nil) || planned["password"] != nil {
				t.Errorf("planned %v from %v", planned, state)
			}
		})
	}
}

// What an engine keeps as written after a read plans no change, whether
// something was written before or not.
func TestWhatIsWrittenForAStateIsSettled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := defineGenerated(t, drawStruct(t, 2, false))
		config := drawConfig(t, d.Type)
		state := applied(t, d, nil, config)
		spec, err := d.spec(state)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ before, state any }{{config, state}, {nil, d.encode(spec)}} {
			written := d.Written(c.before, c.state)
			plan, problems := d.Plan(context.Background(), nil, c.state, written)
			if len(problems) > 0 || len(plan.Changes) > 0 {
				t.Fatalf("%#v is written for\n%#v\nand changes %v (%v)", written, c.state, described(plan.Changes), problems)
			}
		}
	})
}
