package pulumi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skerry-io/skerry/provider/definition/definitiontest"
	"github.com/skerry-io/skerry/resources"
)

// server is the provider of this process, as an engine calls it.
type server struct {
	*testing.T
	pulumirpc.ResourceProviderServer
	world *definitiontest.World
	log   *bytes.Buffer
}

const urnOfIt = "urn:pulumi:dev::project::test:index:Anything::it"

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{T: t, world: definitiontest.NewWorld(), log: new(bytes.Buffer)}
	front, err := New(definitiontest.Provider(t, s.world), "1.2.3", newLog(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.ResourceProviderServer = front
	if _, err := s.Configure(t.Context(), &pulumirpc.ConfigureRequest{Args: s.wire(nil)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// object is what a test writes: properties by name. unknown and hidden make
// values that are not plain.
type object = map[string]any

var unknown = resource.MakeComputed(resource.NewStringProperty(""))

func hidden(v any) resource.PropertyValue { return resource.MakeSecret(resource.NewPropertyValue(v)) }

func (s *server) wire(m object) *structpb.Struct {
	s.Helper()
	return s.marshal(resource.NewPropertyMapFromMap(m))
}

func (s *server) marshal(m resource.PropertyMap) *structpb.Struct {
	s.Helper()
	w, err := plugin.MarshalProperties(m, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	if err != nil {
		s.Fatal(err)
	}
	return w
}

func (s *server) plain(properties *structpb.Struct) resource.PropertyMap {
	s.Helper()
	m, err := plugin.UnmarshalProperties(properties, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true})
	if err != nil {
		s.Fatal(err)
	}
	return m
}

// check returns the inputs, and what is wrong with them.
func (s *server) check(written object) (resource.PropertyMap, []string) {
	s.Helper()
	r, err := s.Check(s.Context(), &pulumirpc.CheckRequest{Urn: urnOfIt, News: s.wire(written)})
	if err != nil {
		s.Fatal(err)
	}
	var reasons []string
	for _, f := range r.Failures {
		if f.Property != "" {
			s.Errorf("a failure stands at %s, whose value is printed", f.Property)
		}
		reasons = append(reasons, f.Reason)
	}
	return s.plain(r.Inputs), reasons
}

// it is a resource as the engine keeps it.
type it struct {
	id              string
	inputs, outputs *structpb.Struct
}

func (s *server) create(written object) it {
	s.Helper()
	inputs, reasons := s.check(written)
	if reasons != nil {
		s.Fatalf("check: %v", reasons)
	}
	r, err := s.Create(s.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: s.marshal(inputs)})
	if err != nil {
		s.Fatalf("create: %v", err)
	}
	return it{r.Id, s.marshal(inputs), r.Properties}
}

func (s *server) diff(i it, written object) *pulumirpc.DiffResponse {
	s.Helper()
	r, err := s.Diff(s.Context(), &pulumirpc.DiffRequest{Urn: urnOfIt, Id: i.id, Olds: i.outputs, OldInputs: i.inputs, News: s.wire(written)})
	if err != nil {
		s.Fatalf("diff: %v", err)
	}
	return r
}

func (s *server) update(i it, written object) (it, error) {
	inputs := s.wire(written)
	r, err := s.Update(s.Context(), &pulumirpc.UpdateRequest{Urn: urnOfIt, Id: i.id, Olds: i.outputs, OldInputs: i.inputs, News: inputs})
	if err != nil {
		return i, err
	}
	return it{i.id, inputs, r.Properties}, nil
}

// changes are those of a diff, as in "~ size" or "+-name" for what replaces.
func changes(r *pulumirpc.DiffResponse) []string {
	signs := map[pulumirpc.PropertyDiff_Kind]string{
		pulumirpc.PropertyDiff_ADD: "+ ", pulumirpc.PropertyDiff_ADD_REPLACE: "+!", pulumirpc.PropertyDiff_DELETE: "- ",
		pulumirpc.PropertyDiff_DELETE_REPLACE: "-!", pulumirpc.PropertyDiff_UPDATE: "~ ", pulumirpc.PropertyDiff_UPDATE_REPLACE: "~!",
	}
	var all []string
	for _, path := range slices.Sorted(maps.Keys(r.DetailedDiff)) {
		all = append(all, signs[r.DetailedDiff[path].Kind]+path)
	}
	return all
}

// failedHalfway gives what the engine keeps of a resource whose call failed.
func failedHalfway(t *testing.T, err error) *pulumirpc.ErrorResourceInitFailed {
	t.Helper()
	said, ok := rpcerror.FromError(err)
	if !ok {
		t.Fatalf("it did not fail halfway: %v", err)
	}
	for _, detail := range said.Details() {
		if failed, is := detail.(*pulumirpc.ErrorResourceInitFailed); is {
			return failed
		}
	}
	t.Fatalf("it did not fail halfway: %v", err)
	return nil
}

var written = object{
	"name": "n", "size": "1024MiB", "tags": []any{"b", "a"}, "labels": object{}, "order": []any{"1024KiB"}, "secret": "whispered",
	"password": "hushed", "passwordVersion": 1, "inners": []any{object{"path": "p"}}, "byName": object{"x_y": object{"path": "q", "deep": object{"text": "d"}}},
}

// with gives the object with other values; nil leaves one out.
func with(o object, more ...any) object {
	o = maps.Clone(o)
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
		if more[i+1] == nil {
			delete(o, more[i].(string))
		}
	}
	return o
}

func TestLifecycle(t *testing.T) {
	s := newServer(t)
	i := s.create(written)
	outputs := s.plain(i.outputs)
	wanted := object{
		"size": "1024MiB", "id": "id-n", "guess": "guessed", "changes": 1.0, "deadline": "30s", "secret": hidden("whispered"),
		"choice": object{"mode": "fast", "level": 3.0}, "facts": object{"address": "10.0.0.1", "sizes": []any{"1GiB"}}, "labels": object{},
	}
	for name, want := range wanted {
		if got := outputs[resource.PropertyKey(name)]; !got.DeepEquals(resource.NewPropertyValue(want)) {
			t.Errorf("%s is %v after the create; want %v", name, got, want)
		}
	}
	if outputs.HasValue("password") || i.id != "id-n" {
		t.Errorf("the ID is %q, the outputs are %v", i.id, outputs)
	}
	inputs := s.plain(i.inputs)
	if !inputs["password"].IsSecret() || !inputs["secret"].IsSecret() {
		t.Errorf("inputs are in the open: %v", inputs)
	}
	if r := s.diff(i, written); r.Changes != pulumirpc.DiffResponse_DIFF_NONE {
		t.Errorf("the second diff is not empty: %v", changes(r))
	}
	respelled := with(written, "size", "1GiB", "tags", []any{"a", "b"}, "order", []any{"1MiB"}, "inners", []any{object{"path": "p", "size": "1024KiB"}})
	if r := s.diff(i, respelled); r.Changes != pulumirpc.DiffResponse_DIFF_NONE {
		t.Errorf("other spellings of the same values are a change: %v", changes(r))
	}
	rotated := with(written, "password", hidden("changed"))
	i, err := s.update(i, rotated)
	if err != nil {
		t.Fatal(err)
	}
	if outputs := s.plain(i.outputs); outputs["changes"].NumberValue() != 2 {
		t.Errorf("outputs are %v after the update", outputs)
	}
	if diff := cmp.Diff([]string{"hushed", "changed"}, s.world.Passwords); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Delete(t.Context(), &pulumirpc.DeleteRequest{Urn: urnOfIt, Id: i.id, Properties: i.outputs}); err != nil || len(s.world.Things) > 0 {
		t.Errorf("%v, left %v", err, s.world.Things)
	}
}

func TestDiff(t *testing.T) {
	s := newServer(t)
	i := s.create(written)
	for name, c := range map[string]struct {
		written object
		want    []string
		first   bool // deleted before it is made anew
	}{
		"nothing":                 {written, nil, false},
		"a value":                 {with(written, "size", "2GiB"), []string{"~ size"}, false},
		"back to a default":       {with(written, "size", nil), nil, false},
		"off a default":           {with(written, "deadline", "1m"), []string{"~ deadline"}, false},
		"elements of sets":        {with(written, "tags", []any{"b", "c", "d"}), []string{"~ tags[1]", "+ tags[2]"}, false},
		"an element of a list":    {with(written, "order", []any{"1MiB", "2MiB"}), []string{"+ order[1]"}, false},
		"no more elements":        {with(written, "order", nil), []string{"- order"}, false},
		"deep inside":             {with(written, "inners", []any{object{"path": "o"}}), []string{"~ inners[0].path"}, false},
		"deeper, where it counts": {with(written, "byName", object{"x_y": object{"path": "q", "deep": object{"text": "e"}}}), []string{`~!byName["x_y"].deep.text`}, true},
		"an object that counts":   {with(written, "inner", object{"path": "q", "deep": object{"text": "e"}}), []string{"+!inner"}, true},
		"another name":            {with(written, "name", "m"), []string{"~!name"}, false},
		"an unknown name":         {with(written, "name", unknown), []string{"~!name"}, true},
		"an unknown value":        {with(written, "labels", object{"a": unknown}), []string{`+ labels["a"]`}, false},
		"what is written only":    {with(written, "password", "new"), []string{"~ password"}, false},
		"its version":             {with(written, "passwordVersion", 2), []string{"~ passwordVersion"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.diff(i, c.written)
			if diff := cmp.Diff(c.want, changes(r)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			some := r.Changes == pulumirpc.DiffResponse_DIFF_SOME
			replaces := strings.Contains(strings.Join(c.want, " "), "!")
			if some != (c.want != nil) || (len(r.Replaces) > 0) != replaces || r.DeleteBeforeReplace != c.first || !r.HasDetailedDiff {
				t.Errorf("the answer is %v", r)
			}
		})
	}
}

func TestChecks(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]struct {
		written object
		want    []string
	}{
		"nothing":             {object{}, []string{"name: is missing; it is required"}},
		"strangers":           {object{"name": "n", "color": "red", "count_of": 1}, []string{"color: is not known here; leave it out", "count_of: is not known here; write countOf"}},
		"deep strangers":      {object{"name": "n", "inners": []any{object{"path": "p", "Size": "1B"}}}, []string{"inners[0].Size: is not known here; write size"}},
		"timeouts":            {object{"name": "n", "timeouts": object{}}, []string{"timeouts: is an option of the resource (customTimeouts), and none of its properties"}},
		"what is filled in":   {object{"name": "n", "id": "x"}, []string{"id: is filled in by the resource; leave it out"}},
		"names are Pulumi's":  {object{"name": "n", "countOf": -1}, []string{"countOf: is negative; give 0 or more"}},
		"paths":               {object{"name": "n", "inners": []any{object{"path": "bad"}}}, []string{"inners[0].path: is bad; write good"}},
		"fractions":           {object{"name": "n", "countOf": 0.5}, []string{"countOf: is not a whole number of 64 bits"}},
		"unknown values":      {object{"name": unknown, "countOf": unknown, "inners": []any{object{"path": unknown}}}, nil},
		"other shapes":        {object{"name": "n", "tags": "a", "labels": []any{}}, []string{"tags: is not a set of strings", "labels: is not a map of strings"}},
		"secrets stay secret": {object{"name": "n", "size": hidden("much of it")}, []string{"size"}},
		"the engine's own":    {object{"name": "n", "__defaults": []any{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := s.check(c.written)
			matches := slices.EqualFunc(c.want, got, func(want, got string) bool { return got == want || name == "secrets stay secret" })
			if !matches || strings.Contains(strings.Join(got, " "), "much of it") {
				t.Errorf("want %q, got %q", c.want, got)
			}
		})
	}
}

func TestPreviews(t *testing.T) {
	s := newServer(t)
	r, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Preview: true, Properties: s.wire(with(written, "size", unknown))})
	if err != nil {
		t.Fatal(err)
	}
	outputs := s.plain(r.Properties)
	for _, name := range []resource.PropertyKey{"size", "id", "guess", "changes", "facts"} {
		if !outputs[name].IsComputed() {
			t.Errorf("%s is %v in the preview", name, outputs[name])
		}
	}
	if outputs["deadline"].StringValue() != "30s" || r.Id != "" || len(s.world.Things) > 0 {
		t.Errorf("the preview is %v, the ID %q", outputs, r.Id)
	}
	i := s.create(written)
	u, err := s.Update(t.Context(), &pulumirpc.UpdateRequest{
		Urn: urnOfIt, Id: i.id, Preview: true, Olds: i.outputs, OldInputs: i.inputs, News: s.wire(with(written, "size", "2GiB")),
	})
	if err != nil {
		t.Fatal(err)
	}
	outputs = s.plain(u.Properties)
	if !outputs["changes"].IsComputed() || outputs["guess"].StringValue() != "guessed" || outputs["size"].StringValue() != "2GiB" {
		t.Errorf("the preview is %v", outputs)
	}
}

func TestRead(t *testing.T) {
	s := newServer(t)
	i := s.create(written)
	read := func() *pulumirpc.ReadResponse {
		t.Helper()
		r, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOfIt, Id: i.id, Properties: i.outputs, Inputs: i.inputs})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := read()
	if !s.plain(r.Properties).DeepEquals(s.plain(i.outputs)) || !s.plain(r.Inputs).DeepEquals(s.plain(i.inputs)) || r.Id != i.id {
		t.Errorf("a read changed\n%v\n%v\nto\n%v\n%v", s.plain(i.inputs), s.plain(i.outputs), s.plain(r.Inputs), s.plain(r.Properties))
	}

	thing := s.world.Things["n"]
	thing.Size, thing.Labels = 2*resources.GiB, map[string]string{"by": "hand"}
	s.world.Things["n"] = thing
	r = read()
	inputs := s.plain(r.Inputs)
	if inputs["size"].StringValue() != "2GiB" || !inputs["labels"].DeepEquals(resource.NewPropertyValue(object{"by": "hand"})) || !inputs["password"].IsSecret() {
		t.Errorf("the inputs are %v after the drift", inputs)
	}
	drifted := it{r.Id, r.Inputs, r.Properties}
	if diff := cmp.Diff([]string{`- labels["by"]`, "~ size"}, changes(s.diff(drifted, written))); diff != "" {
		t.Error(diff)
	}

	s.world.Silent = true
	if r := read(); !s.plain(r.Properties).DeepEquals(s.plain(i.outputs)) || !strings.Contains(s.log.String(), "it does not answer") {
		t.Errorf("what is silent has the state %v; logged: %s", s.plain(r.Properties), s.log)
	}
	s.world.Silent = false
	delete(s.world.Things, "n")
	if r := read(); r.Id != "" {
		t.Errorf("what is gone is still there: %v", r)
	}
}

func TestImport(t *testing.T) {
	s := newServer(t)
	s.create(written)
	r, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOfIt, Id: "n"})
	if err != nil {
		t.Fatal(err)
	}
	imported := it{r.Id, r.Inputs, r.Properties}
	program := with(written, "labels", nil, "password", nil) // neither can be read
	if d := s.diff(imported, program); d.Changes != pulumirpc.DiffResponse_DIFF_NONE || r.Id != "id-n" {
		t.Errorf("the ID is %q, the diff after the import is not empty: %v", r.Id, changes(d))
	}
	for _, name := range []resource.PropertyKey{"deadline", "guess", "id", "changes", "facts", "choice"} {
		if inputs := s.plain(r.Inputs); inputs.HasValue(name) {
			t.Errorf("the inputs have %s, which nobody has to write: %v", name, inputs)
		}
	}
	if _, err := s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOfIt, Id: "nobody"}); err == nil || !strings.Contains(err.Error(), "can't import the anything: there is none") {
		t.Error(err)
	}
}

// A create that fails halfway is gone on with: what it didn't fill in is
// unknown to the next update, which does.
func TestACreateThatFailsHalfwayIsGoneOnWith(t *testing.T) {
	s := newServer(t)
	s.world.Fail = errors.New("whispered: no answer from inner_thing, see count_of")
	inputs := s.wire(written)
	_, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: inputs})
	kept := failedHalfway(t, err)
	if diff := cmp.Diff([]string{"can't create the anything: [secret]: no answer from inner_thing, see countOf"}, kept.Reasons); diff != "" || kept.Id != "id-n" {
		t.Error(kept.Id, diff)
	}
	i := it{kept.Id, inputs, kept.Properties}
	_, err = s.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOfIt, Id: i.id, Properties: i.outputs, Inputs: i.inputs})
	failedHalfway(t, err) // a refresh doesn't heal it
	s.world.Fail = nil
	i, err = s.update(i, written)
	if outputs := s.plain(i.outputs); err != nil || outputs.HasValue(incomplete) || outputs["changes"].NumberValue() != 2 {
		t.Errorf("%v: %v", err, outputs)
	}
}

func TestAFailedUpdateKeepsTheOldState(t *testing.T) {
	s := newServer(t)
	i := s.create(written)
	s.world.Fail = errors.New("no room")
	_, err := s.update(i, with(written, "size", "2GiB"))
	kept := failedHalfway(t, err)
	outputs := s.plain(kept.Properties)
	delete(outputs, incomplete)
	if !outputs.DeepEquals(s.plain(i.outputs)) {
		t.Errorf("the state became %v", outputs)
	}
}

// What the user calls a secret is one in the state, too, and in no message.
func TestSecretsOfTheUser(t *testing.T) {
	s := newServer(t)
	own := object{"name": "n", "labels": object{"open": "a", "token": hidden("s3cr3t")}, "inners": []any{object{"path": hidden("/hidden")}}, "guess": hidden("guess")}
	i := s.create(own)
	outputs := s.plain(i.outputs)
	if !outputs["labels"].ObjectValue()["token"].IsSecret() || outputs["labels"].ObjectValue()["open"].IsSecret() || !outputs["inners"].IsSecret() || !outputs["guess"].IsSecret() {
		t.Errorf("the state is %v", outputs)
	}
	s.world.Fail = errors.New("/hidden holds s3cr3t")
	if _, err := s.update(i, own); err == nil || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "/hidden") {
		t.Error(err)
	}
}

func TestCancelEndsWhatRuns(t *testing.T) {
	s := newServer(t)
	s.world.Before = func(ctx context.Context) error {
		if _, err := s.Cancel(ctx, &emptypb.Empty{}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: s.wire(written)})
	if err == nil || !strings.Contains(err.Error(), "it was cancelled") {
		t.Error(err)
	}
}

func TestCustomTimeouts(t *testing.T) {
	s := newServer(t)
	s.world.Before = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := s.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOfIt, Properties: s.wire(written), Timeout: 0.01})
	if err == nil || !strings.Contains(err.Error(), "create of anything took longer than 10ms (customTimeouts.create)") {
		t.Error(err)
	}
}
