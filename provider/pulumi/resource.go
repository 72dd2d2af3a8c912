package pulumi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skerry-io/skerry/provider/definition"
)

// incomplete marks the outputs of a resource whose last create or update failed.
const incomplete = resource.PropertyKey("__incomplete")

func (f *front) Check(_ context.Context, request *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	written, err := receive(d.Type, request.GetNews())
	if err != nil {
		return nil, err
	}
	for _, a := range d.Type.Attributes { // nobody writes what is filled in
		if !a.Written() && written.tree[a.Name] != nil {
			written.strange.Addf(camel(a.Name), "is filled in by the resource; leave it out")
		}
	}
	inputs, err := send(concealed(d.Type, resource.NewObjectProperty(written.properties)).ObjectValue())
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: inputs, Failures: f.failures(written, d.Validate(written.tree))}, nil
}

func (f *front) Diff(ctx context.Context, request *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	c, err := f.change(d, request.GetOlds(), request.GetOldInputs(), request.GetNews())
	if err != nil {
		return nil, err
	}
	// What the resource says against the plan is said by the update: a refresh asks
	// for differences, too.
	plan, problems := d.PlanAfter(ctx, f.config, c.prior.tree, c.before.tree, c.written.tree)
	if plan.Planned == nil {
		return nil, errors.New(f.text(problems.Err(), c.hide))
	}
	return difference(plan, request.GetIgnoreChanges()), nil
}

// difference tells the engine of a plan.
func difference(plan definition.Plan, ignored []string) *pulumirpc.DiffResponse {
	r := &pulumirpc.DiffResponse{HasDetailedDiff: true, DetailedDiff: map[string]*pulumirpc.PropertyDiff{}, Changes: pulumirpc.DiffResponse_DIFF_NONE}
	replaced := map[string]bool{}
	for _, c := range plan.Changes {
		path, root := propertyPath(c.Path), c.Root().Name
		if slices.ContainsFunc(ignored, func(i string) bool { return within(path, i) }) {
			continue
		}
		replace := c.Replace || slices.Contains(plan.Replace, root) && !slices.ContainsFunc(plan.Changes, func(o definition.Change) bool {
			return o.Replace && o.Root() == c.Root()
		})
		r.DetailedDiff[path] = &pulumirpc.PropertyDiff{Kind: kindOf(c.Kind, replace)}
		r.Diffs = append(r.Diffs, camel(root))
		if replace {
			replaced[root] = true
			r.Replaces = append(r.Replaces, camel(root))
		}
	}
	for _, root := range plan.Replace { // for a reason that is no change of its own
		if name := camel(root); !replaced[root] && !slices.Contains(ignored, name) {
			r.DetailedDiff[name] = &pulumirpc.PropertyDiff{Kind: pulumirpc.PropertyDiff_UPDATE_REPLACE}
			r.Diffs, r.Replaces = append(r.Diffs, name), append(r.Replaces, name)
		}
	}
	r.Diffs, r.Replaces = unique(r.Diffs), unique(r.Replaces)
	if len(r.Diffs) > 0 {
		r.Changes = pulumirpc.DiffResponse_DIFF_SOME
	}
	r.DeleteBeforeReplace = len(r.Replaces) > 0 && plan.Clash
	return r
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func within(path, root string) bool {
	rest, found := strings.CutPrefix(path, root)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func kindOf(kind definition.ChangeKind, replace bool) pulumirpc.PropertyDiff_Kind {
	plain := map[definition.ChangeKind]pulumirpc.PropertyDiff_Kind{
		definition.Added: pulumirpc.PropertyDiff_ADD, definition.Removed: pulumirpc.PropertyDiff_DELETE, definition.Changed: pulumirpc.PropertyDiff_UPDATE,
	}[kind]
	if replace {
		return plain + 1 // each kind is followed by the one that replaces
	}
	return plain
}

// change is what a call about a resource that may be there is given.
type change struct {
	prior, before, written *received
	// hide is what any of them calls secret.
	hide secrets
}

func (f *front) change(d *definition.Definition, state, before, written *structpb.Struct) (*change, error) {
	c := &change{}
	for _, one := range []struct {
		to   **received
		from *structpb.Struct
	}{{&c.prior, state}, {&c.before, before}, {&c.written, written}} {
		r, err := receive(d.Type, one.from)
		if err != nil {
			return nil, err
		}
		*one.to = r
		c.hide = c.hide.merge(r.secrets)
	}
	return c, nil
}

// incomplete is true where the last create or update of the resource failed.
func (c *change) incomplete() bool { return c.prior.properties.HasValue(incomplete) }

// blur makes what a failed call did not fill in unknown, so that the update that
// goes on with it does.
func blur(t *definition.Type, tree map[string]any) {
	for _, a := range t.Attributes {
		inner, isObject := tree[a.Name].(map[string]any)
		switch {
		case a.Volatile, tree[a.Name] == nil && !a.Written() && !a.Block:
			tree[a.Name] = definition.Unknown{}
		case isObject && a.Type.Kind == definition.Object:
			blur(a.Type, inner)
		}
	}
}

// withTimeout adds what the engine says about a call's deadline to what the user
// wrote.
func withTimeout(tree map[string]any, call string, seconds float64) map[string]any {
	if seconds > 0 {
		tree[timeouts] = map[string]any{call: time.Duration(seconds * float64(time.Second)).String()}
	}
	return tree
}

func (f *front) Create(ctx context.Context, request *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	written, err := receive(d.Type, request.GetProperties())
	if err != nil {
		return nil, err
	}
	withTimeout(written.tree, "create", request.GetTimeout())
	plan, problems := d.Plan(ctx, f.config, nil, written.tree)
	if len(problems) > 0 {
		return nil, errors.New(f.text(problems.Err(), written.secrets))
	}
	if request.GetPreview() {
		outputs, err := f.outputs(d, plan.Planned, written.secrets)
		return &pulumirpc.CreateResponse{Properties: outputs}, err
	}
	if err := f.ready(d); err != nil {
		return nil, err
	}
	ctx, done := f.joined(ctx, request.GetUrn())
	defer done()
	state, failed := d.Create(ctx, f.config, plan.Planned, written.tree)
	if failed != nil {
		failed = f.failure(ctx, "create", d, failed, written.secrets)
	}
	if state == nil {
		return nil, failed
	}
	if failed != nil {
		return nil, f.halfMade(failed, d, resourceID(d, state, ""), state, request.GetProperties(), written.secrets)
	}
	outputs, err := f.outputs(d, state, written.secrets)
	return &pulumirpc.CreateResponse{Id: resourceID(d, state, ""), Properties: outputs}, err
}

func (f *front) Read(ctx context.Context, request *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	c, err := f.change(d, request.GetProperties(), request.GetInputs(), nil)
	if err != nil {
		return nil, err
	}
	if err := f.ready(d); err != nil {
		return nil, err
	}
	ctx, done := f.joined(ctx, request.GetUrn())
	defer done()
	var state any = c.prior.tree
	if len(c.prior.tree) == 0 {
		if state, err = d.Import(ctx, f.config, request.GetId()); err != nil {
			return nil, f.failure(ctx, "import", d, err, c.hide)
		}
	}
	state, warnings, err := d.Read(ctx, f.config, state)
	f.warn(ctx, request.GetUrn(), warnings, c.hide)
	if err != nil {
		return nil, f.failure(ctx, "read", d, err, c.hide)
	}
	if state == nil {
		return &pulumirpc.ReadResponse{}, nil
	}
	return f.found(request.GetId(), d, c, state)
}

// found is the answer to a read of what is there.
func (f *front) found(was string, d *definition.Definition, c *change, state any) (*pulumirpc.ReadResponse, error) {
	outputs, err := f.outputs(d, state, c.hide)
	if err != nil {
		return nil, err
	}
	var before any
	if len(c.before.tree) > 0 {
		before = c.before.tree
	}
	tree, _ := d.Written(before, state).(map[string]any)
	inputs, err := send(properties(d.Type, tree, c.hide))
	if err != nil {
		return nil, err
	}
	if c.incomplete() {
		return nil, f.halfMade(errors.New("its last create or update failed; the next one goes on"), d, resourceID(d, state, was), state, inputs, c.hide)
	}
	return &pulumirpc.ReadResponse{Id: resourceID(d, state, was), Properties: outputs, Inputs: inputs}, nil
}

func (f *front) Update(ctx context.Context, request *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	c, err := f.change(d, request.GetOlds(), request.GetOldInputs(), request.GetNews())
	if err != nil {
		return nil, err
	}
	if c.incomplete() {
		blur(d.Type, c.prior.tree)
	}
	withTimeout(c.written.tree, "update", request.GetTimeout())
	plan, problems := d.PlanAfter(ctx, f.config, c.prior.tree, c.before.tree, c.written.tree)
	if len(problems) > 0 {
		return nil, errors.New(f.text(problems.Err(), c.hide))
	}
	if request.GetPreview() {
		outputs, err := f.outputs(d, plan.Planned, c.hide)
		return &pulumirpc.UpdateResponse{Properties: outputs}, err
	}
	if err := f.ready(d); err != nil {
		return nil, err
	}
	ctx, done := f.joined(ctx, request.GetUrn())
	defer done()
	state, failed := d.Update(ctx, f.config, c.prior.tree, plan.Planned, c.written.tree)
	if failed != nil {
		// The state keeps what was there before, and is marked: the program may go
		// back to that, and the resource has to follow.
		failed = f.failure(ctx, "update", d, failed, c.hide)
		return nil, f.halfMade(failed, d, request.GetId(), c.prior.tree, request.GetOldInputs(), c.hide)
	}
	outputs, err := f.outputs(d, state, c.hide)
	return &pulumirpc.UpdateResponse{Properties: outputs}, err
}

func (f *front) Delete(ctx context.Context, request *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	d, err := f.find(request.GetUrn())
	if err != nil {
		return nil, err
	}
	state, err := receive(d.Type, request.GetProperties())
	if err != nil {
		return nil, err
	}
	if err := f.ready(d); err != nil {
		return nil, err
	}
	ctx, done := f.joined(ctx, request.GetUrn())
	defer done()
	warnings, err := d.Delete(ctx, f.config, withTimeout(state.tree, "delete", request.GetTimeout()))
	f.warn(ctx, request.GetUrn(), warnings, state.secrets)
	if err != nil {
		return nil, f.failure(ctx, "delete", d, err, state.secrets)
	}
	return &emptypb.Empty{}, nil
}

// ready refuses calls that need the provider's configuration before it is known.
func (f *front) ready(d *definition.Definition) error {
	if f.config != nil {
		return nil
	}
	return fmt.Errorf("the provider's configuration is not known: it depends on something that is yet to be made. Put the value on the %s itself, where it is resolved in time", d.Name)
}

// failure is the error of a call in the words of Pulumi's users.
func (f *front) failure(ctx context.Context, call string, d *definition.Definition, err error, hide secrets) error {
	text := f.text(err, hide)
	if cause := context.Cause(ctx); errors.Is(cause, errCancelled) && !strings.Contains(text, cause.Error()) {
		text = fmt.Sprintf("%v: %s", cause, text)
	}
	return fmt.Errorf("can't %s the %s: %s", call, d.Name, text)
}

func (f *front) warn(ctx context.Context, at string, warnings []string, hide secrets) {
	for _, w := range warnings {
		f.log.warn(ctx, at, hide.redact(f.names.translate(w)))
	}
}

// outputs are the properties of a state, or of a plan.
func (f *front) outputs(d *definition.Definition, state any, hide secrets) (*structpb.Struct, error) {
	tree, _ := state.(map[string]any)
	return send(properties(d.Type, tree, hide))
}

// resourceID is the ID of a resource in its state, else its name, else the ID
// that it had.
func resourceID(d *definition.Definition, state any, was string) string {
	tree, _ := state.(map[string]any)
	for _, name := range []string{id, "name"} {
		if text, _ := tree[name].(string); text != "" && d.Type.Attribute(name) != nil {
			return text
		}
	}
	return was
}

// halfMade is the error of a resource that is there, and not as it should be.
// The engine keeps the state and goes on from it with the next update.
func (f *front) halfMade(failed error, d *definition.Definition, id string, state any, inputs *structpb.Struct, hide secrets) error {
	tree, _ := state.(map[string]any)
	m := properties(d.Type, known(d.Type, tree), hide)
	m[incomplete] = resource.NewBoolProperty(true)
	outputs, err := send(m)
	if err != nil {
		return errors.Join(failed, err)
	}
	return rpcerror.WithDetails(rpcerror.New(codes.Unknown, failed.Error()), &pulumirpc.ErrorResourceInitFailed{
		Id: id, Properties: outputs, Inputs: inputs, Reasons: []string{failed.Error()},
	})
}

// known is the tree without what the resource should have filled in and didn't;
// see blur.
func known(t *definition.Type, tree map[string]any) map[string]any {
	kept := make(map[string]any, len(tree))
	for _, a := range t.Attributes {
		v := tree[a.Name]
		inner, isObject := v.(map[string]any)
		list, isList := v.([]any)
		_, unknown := v.(definition.Unknown)
		switch {
		case a.Type.Kind == definition.Object && isObject:
			kept[a.Name] = known(a.Type, inner)
		case unknown, !a.Written() && (v == "" || isList && len(list) == 0):
		default:
			kept[a.Name] = v
		}
	}
	return kept
}
