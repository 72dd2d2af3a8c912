package terraform

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/provider/definition/definitiontest"
)

// client speaks the protocol to the provider in this process.
type client struct {
	server tfprotov6.ProviderServer
	typ    tftypes.Object
	world  *definitiontest.World
}

func newClient(t testing.TB) *client {
	t.Helper()
	w := definitiontest.NewWorld()
	server := providerserver.NewProtocol6(New(definitiontest.Provider(t, w), "test"))()
	schema, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil || len(schema.Diagnostics) > 0 {
		t.Fatal(err, texts(schema.Diagnostics))
	}
	block := schema.Provider.ValueType()
	none, err := tfprotov6.NewDynamicValue(block, valueOf(block, map[string]any{}))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := server.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{Config: &none}); err != nil || len(r.Diagnostics) > 0 {
		t.Fatal(err, texts(r.Diagnostics))
	}
	typ := schema.ResourceSchemas["test_anything"].ValueType().(tftypes.Object)
	return &client{server: server, typ: typ, world: w}
}

func texts(diagnostics []*tfprotov6.Diagnostic) (all []string) {
	for _, d := range diagnostics {
		all = append(all, d.Attribute.String()+" "+d.Summary+" | "+d.Detail)
	}
	return all
}

// object completes what a test writes to a value of the resource's type.
func (c *client) object(attributes map[string]any) tftypes.Value {
	return valueOf(c.typ, attributes)
}

func (c *client) dynamic(t failer, v tftypes.Value) *tfprotov6.DynamicValue {
	d, err := tfprotov6.NewDynamicValue(c.typ, v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &d
}

type failer interface{ Fatalf(string, ...any) }

// plan returns the planned value and the attributes that replace.
func (c *client) plan(t failer, prior, config tftypes.Value) (tftypes.Value, []string, []string) {
	proposed := config
	r, err := c.server.PlanResourceChange(context.Background(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: "test_anything", PriorState: c.dynamic(t, prior), ProposedNewState: c.dynamic(t, proposed), Config: c.dynamic(t, config),
	})
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	if len(r.Diagnostics) > 0 {
		return tftypes.Value{}, nil, texts(r.Diagnostics)
	}
	planned, err := r.PlannedState.Unmarshal(c.typ)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	var replace []string
	for _, p := range r.RequiresReplace {
		replace = append(replace, p.String())
	}
	return planned, replace, nil
}

// apply plans and applies, and returns the new state.
func (c *client) apply(t failer, prior, config tftypes.Value) (tftypes.Value, []string) {
	planned, _, problems := c.plan(t, prior, config)
	if problems != nil {
		t.Fatalf("plan: %v", problems)
	}
	r, err := c.server.ApplyResourceChange(context.Background(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: "test_anything", PriorState: c.dynamic(t, prior), PlannedState: c.dynamic(t, planned), Config: c.dynamic(t, config),
	})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	state, err := r.NewState.Unmarshal(c.typ)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return state, texts(r.Diagnostics)
}

func (c *client) read(t failer, state tftypes.Value) (tftypes.Value, []string) {
	r, err := c.server.ReadResource(context.Background(), &tfprotov6.ReadResourceRequest{TypeName: "test_anything", CurrentState: c.dynamic(t, state)})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	after, err := r.NewState.Unmarshal(c.typ)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return after, texts(r.Diagnostics)
}

func (c *client) none() tftypes.Value { return tftypes.NewValue(c.typ, nil) }

func attributeOf(t *testing.T, v tftypes.Value, name string) any {
	t.Helper()
	tree, err := treeOf(v)
	if err != nil {
		t.Fatal(err)
	}
	value := tree.(map[string]any)[name]
	if f, ok := value.(*big.Float); ok {
		n, _ := f.Int64()
		return int(n)
	}
	return value
}

func TestLifecycle(t *testing.T) {
	c := newClient(t)
	config := c.object(map[string]any{
		"name": "n", "size": "1024MiB", "labels": map[string]any{}, "tags": []any{"b", "a"}, "password": "hush", "password_version": big.NewFloat(1),
		"inners": []any{map[string]any{"path": "p"}},
	})
	state, problems := c.apply(t, c.none(), config)
	if problems != nil {
		t.Fatal(problems)
	}
	for name, want := range map[string]any{"size": "1024MiB", "id": "id-n", "guess": "guessed", "changes": 1, "password": nil, "deadline": "30s"} {
		if got := attributeOf(t, state, name); got != want {
			t.Errorf("%s is %v after the create; want %v", name, got, want)
		}
	}
	after, _ := c.read(t, state)
	if !after.Equal(state) {
		t.Error("a read changed the state")
	}
	if planned, _, _ := c.plan(t, state, config); !planned.Equal(state) {
		t.Errorf("the second plan is not empty: %s", planned)
	}
	respelled := c.object(map[string]any{
		"name": "n", "size": "1GiB", "labels": map[string]any{}, "tags": []any{"a", "b"}, "password": "other", "password_version": big.NewFloat(1),
		"inners": []any{map[string]any{"path": "p", "size": "1024KiB"}},
	})
	if planned, _, _ := c.plan(t, state, respelled); !planned.Equal(state) {
		t.Errorf("other spellings of the same values plan a change: %s", planned)
	}
	rotated := c.object(map[string]any{"name": "n", "size": "2GiB", "password": "new", "password_version": big.NewFloat(2)})
	updated, problems := c.apply(t, state, rotated)
	if problems != nil || attributeOf(t, updated, "changes") != 2 || attributeOf(t, updated, "id") != "id-n" {
		t.Errorf("update gave %s, %v", updated, problems)
	}
	if diff := cmp.Diff([]string{"hush", "new"}, c.world.Passwords); diff != "" {
		t.Error(diff)
	}
}

func TestReplaceOnChange(t *testing.T) {
	c := newClient(t)
	inner := func(text string) map[string]any {
		return map[string]any{"path": "p", "deep": map[string]any{"text": text}}
	}
	state, _ := c.apply(t, c.none(), c.object(map[string]any{"name": "n", "inner": inner("a"), "inners": []any{inner("a")}}))
	for name, config := range map[string]map[string]any{
		`AttributeName("name")`:   {"name": "m", "inner": inner("a"), "inners": []any{inner("a")}},
		`AttributeName("inner")`:  {"name": "n", "inner": inner("b"), "inners": []any{inner("a")}},
		`AttributeName("inners")`: {"name": "n", "inner": inner("a"), "inners": []any{inner("b")}},
	} {
		_, replace, problems := c.plan(t, state, c.object(config))
		if diff := cmp.Diff([]string{name}, replace); diff != "" || problems != nil {
			t.Error(diff, problems)
		}
	}
}

func TestAFailedUpdateKeepsTheOldInputs(t *testing.T) {
	c := newClient(t)
	state, _ := c.apply(t, c.none(), c.object(map[string]any{"name": "n"}))
	c.world.Fail = errors.New("no room")
	after, problems := c.apply(t, state, c.object(map[string]any{"name": "n", "size": "2GiB"}))
	if !after.Equal(state) || len(problems) != 1 {
		t.Errorf("state is %s, problems %v", after, problems)
	}
}

func TestACreateThatFailsHalfwayKeepsItsState(t *testing.T) {
	c := newClient(t)
	c.world.Fail = errors.New("no answer")
	state, problems := c.apply(t, c.none(), c.object(map[string]any{"name": "n"}))
	if len(problems) != 1 || attributeOf(t, state, "id") != "id-n" {
		t.Errorf("state is %s, problems %v", state, problems)
	}
}

func TestReadOfWhatIsSilentWarnsAndKeeps(t *testing.T) {
	c := newClient(t)
	state, _ := c.apply(t, c.none(), c.object(map[string]any{"name": "n"}))
	c.world.Silent = true
	after, warnings := c.read(t, state)
	if !after.Equal(state) || len(warnings) != 1 {
		t.Errorf("state is %s, warnings %v", after, warnings)
	}
	c.world.Silent = false
	delete(c.world.Things, "n")
	if after, _ := c.read(t, state); !after.IsNull() {
		t.Errorf("what is gone is still in the state: %s", after)
	}
}

func TestImportThenPlanIsEmpty(t *testing.T) {
	c := newClient(t)
	config := c.object(map[string]any{"name": "n", "size": "1GiB", "inner": map[string]any{"path": "p"}})
	if _, problems := c.apply(t, c.none(), config); problems != nil {
		t.Fatal(problems)
	}
	r, err := c.server.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: "test_anything", ID: "n"})
	if err != nil || len(r.Diagnostics) > 0 {
		t.Fatal(err, texts(r.Diagnostics))
	}
	state, err := r.ImportedResources[0].State.Unmarshal(c.typ)
	if err != nil {
		t.Fatal(err)
	}
	state, _ = c.read(t, state)
	if planned, _, problems := c.plan(t, state, config); problems != nil || !planned.Equal(state) {
		t.Errorf("the plan after the import is not empty: %v\n%s\n%s", problems, state, planned)
	}
}

func TestProblemsStandAtTheRootAttribute(t *testing.T) {
	c := newClient(t)
	validate := func(attributes map[string]any) []string {
		r, err := c.server.ValidateResourceConfig(t.Context(), &tfprotov6.ValidateResourceConfigRequest{TypeName: "test_anything", Config: c.dynamic(t, c.object(attributes))})
		if err != nil {
			t.Fatal(err)
		}
		return texts(r.Diagnostics)
	}
	want := []string{
		`AttributeName("inners") Invalid anything: inners[0].path | inners[0].path: is bad; write good`,
		`AttributeName("count_of") Invalid anything: count_of | count_of: is negative; give 0 or more`,
	}
	bad := map[string]any{"name": "n", "inners": []any{map[string]any{"path": "bad"}}, "count_of": big.NewFloat(-1)}
	if diff := cmp.Diff(want, validate(bad)); diff != "" {
		t.Error(diff)
	}
	unknown := map[string]any{"name": definition.Unknown{}, "inners": []any{map[string]any{"path": definition.Unknown{}}}, "count_of": definition.Unknown{}}
	if got := validate(unknown); got != nil {
		t.Errorf("unknown values have problems: %v", got)
	}
	if got := validate(map[string]any{"name": "n", "size": "much"}); len(got) != 1 {
		t.Errorf("a size that is none has the problems %v", got)
	}
	if got := validate(map[string]any{"name": "n", "count_of": big.NewFloat(0.5)}); len(got) != 1 {
		t.Errorf("half a count has the problems %v", got)
	}
}

// Any tree survives the wire, unknown values and nulls included.
func TestTreesSurviveTheWire(t *testing.T) {
	c := newClient(t)
	rapid.Check(t, func(t *rapid.T) {
		v := valueOf(c.typ, drawTree(t, c.typ))
		wire := c.dynamic(t, v)
		back, err := wire.Unmarshal(c.typ)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := treeOf(back)
		if err != nil {
			t.Fatal(err)
		}
		if again := valueOf(c.typ, tree); !again.Equal(v) {
			t.Fatalf("%s became %s", v, again)
		}
	})
}

func drawTree(t *rapid.T, typ tftypes.Type) any {
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		return nil
	case 1:
		return definition.Unknown{}
	}
	switch typ := typ.(type) {
	case tftypes.Object:
		object := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(typ.AttributeTypes)) {
			object[name] = drawTree(t, typ.AttributeTypes[name])
		}
		return object
	case tftypes.Map:
		m := map[string]any{}
		for _, key := range rapid.SliceOfNDistinct(rapid.String(), 0, 3, rapid.ID).Draw(t, "keys") {
			m[key] = drawTree(t, typ.ElementType)
		}
		return m
	case tftypes.List:
		return drawList(t, typ.ElementType)
	case tftypes.Set:
		return drawList(t, typ.ElementType)
	}
	switch {
	case typ.Is(tftypes.Bool):
		return rapid.Bool().Draw(t, "bool")
	case typ.Is(tftypes.Number):
		n, _, err := big.ParseFloat(rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,9})?`).Draw(t, "number"), 10, 512, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		return n
	default:
		return rapid.String().Draw(t, "string")
	}
}

func drawList(t *rapid.T, elem tftypes.Type) []any {
	list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
	for i := range list {
		list[i] = drawTree(t, elem)
	}
	return list
}
