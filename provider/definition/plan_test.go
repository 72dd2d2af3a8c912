package definition

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// define defines a resource whose calls do nothing.
func define[S any](t *testing.T) *Definition {
	t.Helper()
	return defineWith(t, Resource[any, S]{})
}

// defineWith defines a resource whose missing calls do nothing.
func defineWith[S any](t *testing.T, r Resource[any, S]) *Definition {
	t.Helper()
	r.Name = "thing"
	if r.Create == nil {
		r.Create = func(context.Context, any, *S) error { return nil }
	}
	if r.Read == nil {
		r.Read = func(context.Context, any, *S) (Reading, error) { return Reading{}, nil }
	}
	if r.Update == nil {
		r.Update = func(context.Context, any, *S, *S) error { return nil }
	}
	if r.Delete == nil {
		r.Delete = func(context.Context, any, *S) ([]string, error) { return nil, nil }
	}
	d, err := r.Define(nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

type object = map[string]any

func number(n int64) *big.Float { return new(big.Float).SetInt64(n) }

var byValue = cmp.Comparer(func(a, b *big.Float) bool { return a.Cmp(b) == 0 })

type nest struct {
	Plain  string           `json:"plain" iac:"optional"`
	Pinned *nestItem        `json:"pinned" iac:"optional,replace"`
	One    *nestItem        `json:"one" iac:"optional"`
	List   []nestItem       `json:"list" iac:"optional"`
	Map    map[string]nest2 `json:"map" iac:"optional"`
	Words  []string         `json:"words" iac:"optional,replace"`
}

type nestItem struct {
	Free string          `json:"free" iac:"optional"`
	Size resources.Bytes `json:"size" iac:"optional,replace"`
}

type nest2 struct {
	Items []nestItem `json:"items" iac:"optional"`
}

// A change replaces the resource where it stands within an attribute that says
// so, however deep.
func TestReplaceFromWithin(t *testing.T) {
	d := define[nest](t)
	one := func(free, size any) object { return object{"free": free, "size": size} }
	in := func(items ...any) object { return object{"x": object{"items": items}} }
	for name, c := range map[string]struct {
		prior, written object
		want           []string
	}{
		"nothing":                       {object{"plain": "a"}, object{"plain": "a"}, nil},
		"a plain value":                 {object{"plain": "a"}, object{"plain": "b"}, nil},
		"a plain value in a pinned one": {object{"pinned": one("a", nil)}, object{"pinned": one("b", nil)}, []string{"pinned"}},
		"a pinned object is gone":       {object{"pinned": one("a", nil)}, object{}, []string{"pinned"}},
		"a free value in an object":     {object{"one": one("a", "1GiB")}, object{"one": one("b", "1GiB")}, nil},
		"a pinned value in an object":   {object{"one": one("a", "1GiB")}, object{"one": one("a", "2GiB")}, []string{"one"}},
		"another spelling":              {object{"one": one("a", "1GiB")}, object{"one": one("a", "1024MiB")}, nil},
		"an object with a pinned value": {object{}, object{"one": one("a", "1GiB")}, []string{"one"}},
		"an object without one":         {object{}, object{"one": one("a", nil)}, nil},
		"a pinned value in a list":      {object{"list": []any{one("a", "1GiB")}}, object{"list": []any{one("a", "2GiB")}}, []string{"list"}},
		"a free value in a list":        {object{"list": []any{one("a", "1GiB")}}, object{"list": []any{one("b", "1GiB")}}, nil},
		"a free element more":           {object{"list": []any{one("a", nil)}}, object{"list": []any{one("a", nil), one("b", nil)}}, nil},
		"a pinned element more":         {object{"list": []any{one("a", nil)}}, object{"list": []any{one("a", nil), one("b", "1GiB")}}, []string{"list"}},
		"a pinned element less":         {object{"list": []any{one("a", "1GiB")}}, object{"list": []any{}}, []string{"list"}},
		"a pinned value in a map":       {object{"map": in(one("a", "1GiB"))}, object{"map": in(one("a", "2GiB"))}, []string{"map"}},
		"a free value in a map":         {object{"map": in(one("a", "1GiB"))}, object{"map": in(one("b", "1GiB"))}, nil},
		"a pinned value under a key":    {object{"map": in(one("a", "1GiB"))}, object{"map": object{}}, []string{"map"}},
		"an element of a pinned list":   {object{"words": []any{"a"}}, object{"words": []any{"b"}}, []string{"words"}},
		"two at once":                   {object{"one": one("a", "1B"), "words": []any{"a"}}, object{"one": one("a", "2B")}, []string{"one", "words"}},
		"an unknown pinned value":       {object{"words": []any{"a"}}, object{"words": Unknown{}}, []string{"words"}},
		"an unknown free value":         {object{"plain": "a"}, object{"plain": Unknown{}}, nil},
		"an unknown object":             {object{"one": one("a", "1B")}, object{"one": Unknown{}}, nil},
		"an unknown value in a list":    {object{"list": []any{one("a", "1B")}}, object{"list": []any{one("a", Unknown{})}}, []string{"list"}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, problems := d.Plan(t.Context(), nil, d.Type.plan(nil, c.prior), c.written)
			if diff := cmp.Diff(c.want, plan.Replace); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got)\n%s", problems, diff)
			}
		})
	}
}

func TestAResourceThatCantBeUpdatedIsReplaced(t *testing.T) {
	d := define[nest](t)
	d.ops.update = nil
	plan, _ := d.Plan(t.Context(), nil, d.Type.plan(nil, object{"plain": "a"}), object{"plain": "b"})
	if diff := cmp.Diff([]string{"plain"}, plan.Replace); diff != "" {
		t.Error(diff)
	}
}

type changing struct {
	Name     string `json:"name"`
	ID       string `json:"id" iac:"computed"`
	Version  int    `json:"version_of" iac:"volatile"`
	Guess    string `json:"guess" iac:"optional,computed"`
	Password string `json:"password" iac:"optional,writeonly,version=rotation"`
	Rotation int    `json:"rotation" iac:"optional"`
}

// A volatile value is unknown in the plan of any change, and only then.
func TestVolatile(t *testing.T) {
	d := define[changing](t)
	prior := object{"name": "a", "id": "i", "version_of": number(1), "guess": "g", "password": nil, "rotation": number(1), "timeouts": nil}
	for name, c := range map[string]struct {
		written object
		want    any
	}{
		"nothing":                {object{"name": "a", "rotation": number(1)}, number(1)},
		"the guess, confirmed":   {object{"name": "a", "guess": "g", "rotation": number(1)}, number(1)},
		"a password alone":       {object{"name": "a", "password": "p", "rotation": number(1)}, number(1)},
		"the password's version": {object{"name": "a", "password": "p", "rotation": number(2)}, Unknown{}},
		"a name":                 {object{"name": "b", "rotation": number(1)}, Unknown{}},
		"an unknown name":        {object{"name": Unknown{}, "rotation": number(1)}, Unknown{}},
		"a guess":                {object{"name": "a", "guess": "h", "rotation": number(1)}, Unknown{}},
	} {
		t.Run(name, func(t *testing.T) {
			plan, problems := d.Plan(t.Context(), nil, prior, c.written)
			planned := plan.Planned.(object)
			if diff := cmp.Diff(c.want, planned["version_of"], byValue); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got)\n%s", problems, diff)
			}
			if planned["id"] != "i" || planned["password"] != nil {
				t.Errorf("id is %v, password %v", planned["id"], planned["password"])
			}
		})
	}
	plan, _ := d.Plan(t.Context(), nil, nil, object{"name": "a"})
	want := object{"name": "a", "id": Unknown{}, "version_of": Unknown{}, "guess": Unknown{}, "password": nil, "rotation": nil, "timeouts": nil}
	if diff := cmp.Diff(want, plan.Planned); diff != "" {
		t.Errorf("a create (-want +got)\n%s", diff)
	}
}

// Sets have no order, and no element twice, whatever their spelling.
func TestSets(t *testing.T) {
	d := define[struct {
		Sizes []resources.Bytes `json:"sizes" iac:"optional,set"`
		Order []resources.Bytes `json:"order" iac:"optional"`
	}](t)
	list := func(texts ...any) []any { return texts }
	for name, c := range map[string]struct {
		prior, written any
		same           bool
	}{
		"as it was":            {list("1GiB", "2GiB"), list("1GiB", "2GiB"), true},
		"another order":        {list("1GiB", "2GiB"), list("2GiB", "1GiB"), true},
		"another spelling":     {list("1GiB", "2GiB"), list("2048MiB", "1GiB"), true},
		"one twice":            {list("1GiB", "2GiB"), list("1GiB", "2GiB", "1024MiB"), true},
		"one more":             {list("1GiB"), list("1GiB", "2GiB"), false},
		"one less":             {list("1GiB", "2GiB"), list("2GiB"), false},
		"another":              {list("1GiB", "2GiB"), list("1GiB", "3GiB"), false},
		"one that is unknown":  {list("1GiB", "2GiB"), list("1GiB", Unknown{}), false},
		"one that is no value": {list("1GiB"), list("1GiB", nil), false},
		"none":                 {list("1GiB"), list(), false},
		"no set":               {list("1GiB"), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			prior := d.Type.plan(nil, object{"sizes": c.prior})
			plan, problems := d.Plan(t.Context(), nil, prior, object{"sizes": c.written})
			want := c.written
			if c.same {
				want = c.prior
			}
			if diff := cmp.Diff(want, plan.Planned.(object)["sizes"]); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got)\n%s", problems, diff)
			}
		})
	}
	prior := d.Type.plan(nil, object{"order": list("1GiB", "2GiB")})
	plan, _ := d.Plan(t.Context(), nil, prior, object{"order": list("2GiB", "1GiB")})
	if diff := cmp.Diff(any(list("2GiB", "1GiB")), plan.Planned.(object)["order"]); diff != "" {
		t.Errorf("a list has an order (-want +got)\n%s", diff)
	}
}

func TestPlanning(t *testing.T) {
	type spec struct {
		Image struct {
			Source string `json:"source"`
		} `json:"image"`
		List   []string `json:"list" iac:"optional"`
		Digest string   `json:"digest" iac:"computed"`
		ID     string   `json:"id" iac:"computed"`
	}
	var known []bool
	d := defineWith(t, Resource[any, spec]{Plan: func(_ context.Context, _ any, p *Planning[spec]) (problems resources.Problems) {
		known = []bool{p.Known("image"), p.Known("image.source"), p.Known("list"), p.Known("list[0]"), p.Known("list[1]")}
		p.Set("digest", "sha256:"+p.Planned.Image.Source)
		if p.Prior != nil && p.Prior.Image != p.Planned.Image {
			p.MayChange("id")
			p.Replace("image")
		}
		problems.Addf("image.source", "is seen only where it is known")
		return problems
	}})
	plan, problems := d.Plan(t.Context(), struct{}{}, nil, object{"image": object{"source": Unknown{}}, "list": []any{"a", Unknown{}}})
	if diff := cmp.Diff([]bool{false, false, false, true, false}, known); diff != "" || len(problems) > 0 {
		t.Errorf("%v (-want +got)\n%s", problems, diff)
	}
	if got := plan.Planned.(object)["digest"]; got != "sha256:" {
		t.Errorf("the digest is planned as %v", got)
	}
	prior := object{"image": object{"source": "a"}, "list": nil, "digest": "sha256:a", "id": "i", "timeouts": nil}
	plan, problems = d.Plan(t.Context(), struct{}{}, prior, object{"image": object{"source": "b"}})
	want := object{"image": object{"source": "b"}, "list": nil, "digest": "sha256:b", "id": Unknown{}, "timeouts": nil}
	if diff := cmp.Diff(want, plan.Planned); diff != "" || !slices.Equal(plan.Replace, []string{"image"}) || len(problems) != 1 {
		t.Errorf("replace %v, problems %v (-want +got)\n%s", plan.Replace, problems, diff)
	}
	for name, misuse := range map[string]func(*Planning[spec]){
		"no such attribute":         func(p *Planning[spec]) { p.MayChange("nothing") },
		"an attribute of the user":  func(p *Planning[spec]) { p.Set("list", "x") },
		"an attribute further in":   func(p *Planning[spec]) { p.MayChange("image.source") },
		"a replacement from within": func(p *Planning[spec]) { p.Replace("image.source") },
	} {
		d := defineWith(t, Resource[any, spec]{Plan: func(_ context.Context, _ any, p *Planning[spec]) resources.Problems { misuse(p); return nil }})
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			d.Plan(t.Context(), struct{}{}, nil, object{"image": object{"source": "a"}})
		}()
	}
}
