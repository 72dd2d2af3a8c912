package definition

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// The calls of a front-end. Trees are those of the whole resource; config is
// what the provider's Configure returned, or nil where that is not known yet.

// Validate returns every problem with what the user wrote, defaults included.
func (d *Definition) Validate(config any) resources.Problems {
	spec, found := d.decode(withWriteOnly(d.Type, d.Type.plan(nil, config), config))
	_, written := d.writtenTimeouts(config)
	missing := d.Type.missing(config, "")
	checked := hidden(d.ops.check(spec), append(found.doubtful(), paths(missing)...))
	return slices.Concat(missing, found.problems, checked, written.problems)
}

// Plan is what a create or an update will do.
type Plan struct {
	// Planned is the tree of the resource, with Unknown for what is computed
	// later.
	Planned any
	// Replace names the attributes of the resource for which it is replaced.
	Replace []string
	// Changes are all differences from the prior state, as deep inside as they
	// can be named. Volatile values are none by themselves.
	Changes []Change
	// Clash is true where the resource and its replacement can't be there at the
	// same time.
	Clash bool
}

// Plan plans a create, where prior is nil, or an update.
func (d *Definition) Plan(ctx context.Context, config, prior, written any) (Plan, resources.Problems) {
	return d.PlanAfter(ctx, config, prior, nil, written)
}

// PlanAfter is Plan for an engine that keeps what the user wrote before, in
// which a change of a write-only value is seen without its version.
func (d *Definition) PlanAfter(ctx context.Context, config, prior, before, written any) (Plan, resources.Problems) {
	planned, ok := d.Type.plan(prior, written).(map[string]any)
	if !ok {
		return Plan{}, resources.Problems{{Reason: "the resource is not an object"}}
	}
	old, _ := prior.(map[string]any)
	p := &planning{typ: d.Type, prior: old, planned: planned}
	spec, found := d.decode(planned)
	if problems := append(d.Type.missing(written, ""), found.problems...); len(problems) > 0 {
		return Plan{}, problems
	}
	p.plannedSpec, p.unknown = spec, found.unknown
	if old != nil {
		spec, found := d.decode(prior)
		if len(found.problems) > 0 {
			return Plan{}, found.problems
		}
		p.priorSpec = spec
	}
	problems := hidden(d.ops.plan(ctx, config, p), p.unknown)
	if old == nil {
		return Plan{Planned: planned}, problems
	}
	changes := append(d.Type.changes(old, planned), d.Type.rewritten(before, written)...)
	for _, a := range d.Type.Attributes {
		if a.Volatile && len(changes) > 0 {
			planned[a.Name] = Unknown{}
		}
	}
	result := Plan{Planned: planned, Replace: p.replace, Changes: changes, Clash: p.sameName() || d.ops.clash != nil && d.ops.clash(p)}
	for _, c := range changes {
		if root := c.Root(); c.Replace || d.ops.update == nil && !root.Computed {
			result.Replace = append(result.Replace, root.Name)
		}
	}
	slices.Sort(result.Replace)
	result.Replace = slices.Compact(result.Replace)
	return result, problems
}

// Create makes what was planned, and returns the state. With an error the state
// is nil, unless the resource was made in part.
func (d *Definition) Create(ctx context.Context, config, planned, written any) (any, error) {
	spec, err := d.spec(withWriteOnly(d.Type, planned, written))
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := d.withDeadline(ctx, planned, d.timeouts.Create, "create")
	if err != nil {
		return nil, err
	}
	defer cancel()
	err = overdue(ctx, d.ops.create(ctx, config, spec))
	var partial *Partial
	if err != nil && !errors.As(err, &partial) {
		return nil, err
	}
	return d.Type.fill(planned, d.encode(spec)), err
}

// Read returns the state as it is now, or nil where the resource is gone.
func (d *Definition) Read(ctx context.Context, config, state any) (any, []string, error) {
	spec, err := d.spec(state)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel, err := d.withDeadline(ctx, state, d.timeouts.Read, "read")
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	reading, err := d.ops.read(ctx, config, spec)
	if err != nil || reading.Gone {
		return nil, reading.Warnings, overdue(ctx, err)
	}
	return d.Type.refresh(state, d.encode(spec)), reading.Warnings, nil
}

// Update changes the resource as planned, and returns the state.
func (d *Definition) Update(ctx context.Context, config, prior, planned, written any) (any, error) {
	old, err := d.spec(prior)
	if err != nil {
		return nil, err
	}
	spec, err := d.spec(withWriteOnly(d.Type, planned, written))
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := d.withDeadline(ctx, planned, d.timeouts.Update, "update")
	if err != nil {
		return nil, err
	}
	defer cancel()
	if d.ops.update != nil {
		if err := d.ops.update(ctx, config, old, spec); err != nil {
			return nil, overdue(ctx, err)
		}
	}
	return d.Type.fill(planned, d.encode(spec)), nil
}

// Delete removes the resource.
func (d *Definition) Delete(ctx context.Context, config, state any) ([]string, error) {
	spec, err := d.spec(state)
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := d.withDeadline(ctx, state, d.timeouts.Delete, "delete")
	if err != nil {
		return nil, err
	}
	defer cancel()
	warnings, err := d.ops.delete(ctx, config, spec)
	return warnings, overdue(ctx, err)
}

// Importable is true where Import finds anything.
func (d *Definition) Importable() bool { return d.ops.importer != nil }

// Import returns the state of what the ID names.
func (d *Definition) Import(ctx context.Context, config any, id string) (any, error) {
	if !d.Importable() {
		return nil, fmt.Errorf("import %s: it can't be imported", d.Name)
	}
	ctx, cancel, err := d.withDeadline(ctx, nil, d.timeouts.Read, "read")
	if err != nil {
		return nil, err
	}
	defer cancel()
	spec, err := d.ops.importer(ctx, config, id)
	if err != nil {
		return nil, overdue(ctx, err)
	}
	return d.encode(spec), nil
}

func (d *Definition) decode(tree any) (spec any, found decoded) {
	v := reflect.New(d.Type.goType)
	found = d.Type.decode(tree, v.Elem(), "")
	return v.Interface(), found
}

// spec decodes a tree that has to fit.
func (d *Definition) spec(tree any) (any, error) {
	spec, found := d.decode(tree)
	return spec, found.problems.Err()
}

func (d *Definition) encode(spec any) any { return d.Type.encode(reflect.ValueOf(spec)) }

// withDeadline bounds a call by the user's timeout, else by the resource's.
func (d *Definition) withDeadline(ctx context.Context, tree any, unless time.Duration, call string) (context.Context, context.CancelFunc, error) {
	deadline, err := d.deadline(tree, unless, call)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("%s of %s took longer than %s (timeouts.%s)", call, d.Name, deadline, call))
	return ctx, cancel, nil
}

func (d *Definition) deadline(tree any, unless time.Duration, call string) (time.Duration, error) {
	t, found := d.writtenTimeouts(tree)
	if err := found.problems.Err(); err != nil {
		return 0, err
	}
	own := map[string]resources.Duration{"create": t.Create, "read": t.Read, "update": t.Update, "delete": t.Delete}[call]
	switch {
	case own > 0:
		return time.Duration(own), nil
	case unless > 0:
		return unless, nil
	default:
		return DefaultTimeout, nil
	}
}

func (d *Definition) writtenTimeouts(tree any) (*timeouts, decoded) {
	object, _ := tree.(map[string]any)
	var t timeouts
	found := d.Type.Attribute(timeoutsName).Type.decode(object[timeoutsName], reflect.ValueOf(&t).Elem(), timeoutsName)
	return &t, found
}

// overdue says in the error of a call which deadline has passed, where the call
// itself didn't.
func overdue(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func paths(problems resources.Problems) []string {
	all := make([]string, len(problems))
	for i, p := range problems {
		all[i] = p.Path
	}
	return all
}

// withWriteOnly gives the planned tree with the write-only values that the user
// wrote: plan and state never hold them.
func withWriteOnly(t *Type, planned, written any) any {
	switch t.Kind {
	case Object:
		p, isObject := planned.(map[string]any)
		w, wasObject := written.(map[string]any)
		if !isObject || !wasObject {
			return planned
		}
		whole := make(map[string]any, len(p))
		for _, a := range t.Attributes {
			whole[a.Name] = withWriteOnly(a.Type, p[a.Name], w[a.Name])
			if a.WriteOnly {
				whole[a.Name] = w[a.Name]
			}
		}
		return whole
	case List:
		p, isList := planned.([]any)
		w, wasList := written.([]any)
		if !isList || !wasList || len(p) != len(w) {
			return planned
		}
		whole := make([]any, len(p))
		for i := range p {
			whole[i] = withWriteOnly(t.Elem, p[i], w[i])
		}
		return whole
	case Map:
		p, isMap := planned.(map[string]any)
		w, wasMap := written.(map[string]any)
		if !isMap || !wasMap {
			return planned
		}
		whole := make(map[string]any, len(p))
		for key := range p {
			whole[key] = withWriteOnly(t.Elem, p[key], w[key])
		}
		return whole
	case Bool, Int, Float, String, Set:
	}
	return planned
}
