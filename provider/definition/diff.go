package definition

import (
	"maps"
	"slices"
)

// A Change is a value that differs from what was there, as deep inside as it
// can be named.
type Change struct {
	Path Path
	Kind ChangeKind
	// Replace is true where the resource is replaced for it.
	Replace bool
}

// ChangeKind says how a value differs.
type ChangeKind int

// The kinds of a Change.
const (
	Added ChangeKind = iota
	Removed
	Changed
)

// Path leads from a resource to a value in it. Each step is an *Attribute of an
// object, a string that is the key of a map, or an int that is the place in a
// list or set: in the planned one, or in the prior one for what is removed.
type Path []any

// Root is the attribute of the resource that the change is in.
func (c Change) Root() *Attribute { return c.Path[0].(*Attribute) }

// differ collects changes.
type differ struct{ changes []Change }

// changes compares the attributes of the root object. A value replaces the
// resource where it, or what it is in, says so.
func (t *Type) changes(prior, planned map[string]any) []Change {
	var d differ
	for _, a := range t.Attributes {
		if a.Block || a.WriteOnly {
			continue
		}
		d.diff(a.Type, prior[a.Name], planned[a.Name], Path{a}, a.Replace)
	}
	return d.changes
}

// rewritten compares the write-only values that the user wrote with those that
// were written before, as far as both are known.
func (t *Type) rewritten(before, written any) []Change {
	var d differ
	d.rewritten(t, before, written, nil)
	return d.changes
}

func (d *differ) rewritten(t *Type, before, written any, path Path) {
	switch t.Kind {
	case Object:
		was, _ := before.(map[string]any)
		will, _ := written.(map[string]any)
		for _, a := range t.Attributes {
			switch {
			case was[a.Name] == nil:
			case !a.WriteOnly:
				d.rewritten(a.Type, was[a.Name], will[a.Name], append(path, a))
			case will[a.Name] == nil:
				d.add(append(path, a), Removed, false)
			case !a.Type.equal(was[a.Name], will[a.Name]):
				d.add(append(path, a), Changed, false)
			}
		}
	case List:
		was, _ := before.([]any)
		will, _ := written.([]any)
		for i := range min(len(was), len(will)) {
			d.rewritten(t.Elem, was[i], will[i], append(path, i))
		}
	case Map:
		was, _ := before.(map[string]any)
		will, _ := written.(map[string]any)
		for _, key := range sortedKeys(was) {
			if will[key] != nil {
				d.rewritten(t.Elem, was[key], will[key], append(path, key))
			}
		}
	case Bool, Int, Float, String, Set:
	}
}

func (d *differ) add(path Path, kind ChangeKind, replace bool) {
	d.changes = append(d.changes, Change{Path: slices.Clone(path), Kind: kind, Replace: replace})
}

// diff compares two values. What is in an object that appears or disappears
// changes with it.
func (d *differ) diff(t *Type, prior, planned any, path Path, replace bool) {
	_, unknown := planned.(Unknown)
	switch {
	case t.equal(prior, planned):
	case prior == nil:
		d.add(path, Added, replace || !unknown && t.replaces(planned))
	case planned == nil:
		d.add(path, Removed, replace || t.replaces(prior))
	case unknown: // the engine asks again once it is known
		d.add(path, Changed, replace)
	default:
		d.within(t, prior, planned, path, replace)
	}
}

// within compares what two values of the same shape hold.
func (d *differ) within(t *Type, prior, planned any, path Path, replace bool) {
	switch t.Kind {
	case Object:
		was, _ := prior.(map[string]any)
		will, _ := planned.(map[string]any)
		for _, a := range t.Attributes {
			d.diff(a.Type, was[a.Name], will[a.Name], append(path, a), replace || a.Replace)
		}
	case List:
		was, _ := prior.([]any)
		will, _ := planned.([]any)
		for i := range max(len(was), len(will)) {
			d.diff(t.Elem, elementAt(was, i), elementAt(will, i), append(path, i), replace)
		}
	case Map:
		was, _ := prior.(map[string]any)
		will, _ := planned.(map[string]any)
		keys := slices.AppendSeq(sortedKeys(was), maps.Keys(will))
		slices.Sort(keys)
		for _, key := range slices.Compact(keys) {
			d.diff(t.Elem, was[key], will[key], append(path, key), replace)
		}
	case Set:
		d.set(t, prior, planned, path, replace)
	case Bool, Int, Float, String:
		d.add(path, Changed, replace)
	}
}

// set compares sets: what is in one of them only was added or removed. Two
// changes at one place are one.
func (d *differ) set(t *Type, prior, planned any, path Path, replace bool) {
	was, _ := prior.([]any)
	will, _ := planned.([]any)
	for i := range max(len(was), len(will)) {
		removed := i < len(was) && !t.subset(was[i:i+1], will)
		added := i < len(will) && !t.subset(will[i:i+1], was)
		switch {
		case removed && added:
			d.add(append(path, i), Changed, replace)
		case removed:
			d.add(append(path, i), Removed, replace)
		case added:
			d.add(append(path, i), Added, replace)
		}
	}
}

// replaces is true where something that the value holds says that its change
// replaces the resource.
func (t *Type) replaces(value any) bool {
	switch t.Kind {
	case Object:
		object, _ := value.(map[string]any)
		return slices.ContainsFunc(t.Attributes, func(a *Attribute) bool {
			return object[a.Name] != nil && (a.Replace || a.Type.replaces(object[a.Name]))
		})
	case List:
		list, _ := value.([]any)
		return slices.ContainsFunc(list, t.Elem.replaces)
	case Map:
		m, _ := value.(map[string]any)
		return slices.ContainsFunc(slices.Collect(maps.Values(m)), t.Elem.replaces)
	case Bool, Int, Float, String, Set:
	}
	return false
}

func elementAt(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}
