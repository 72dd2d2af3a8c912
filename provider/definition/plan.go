package definition

import (
	"reflect"
	"slices"
)

// plan gives the tree that the resource will have: what the user wrote, with
// the prior spelling where the value is the same, defaults for what was left
// out, and unknown for what is computed and not known yet. prior is nil where
// there is none.
func (t *Type) plan(prior, config any) any {
	if _, unknown := config.(Unknown); unknown || config == nil {
		return config
	}
	switch t.Kind {
	case Object:
		object, ok := config.(map[string]any)
		if !ok {
			return config // decode says so
		}
		old, _ := prior.(map[string]any)
		planned := make(map[string]any, len(t.Attributes))
		for _, a := range t.Attributes {
			planned[a.Name] = a.plan(old[a.Name], object[a.Name], old != nil)
		}
		return planned
	case List:
		if t.Elem.Kind == Object {
			return t.planList(prior, config)
		}
	case Map:
		if t.Elem.Kind == Object {
			return t.planMap(prior, config)
		}
	case Bool, Int, Float, String, Set:
	}
	if prior != nil && t.equal(prior, config) {
		return prior
	}
	return config
}

func (t *Type) planList(prior, config any) any {
	list, ok := config.([]any)
	if !ok {
		return config
	}
	old, _ := prior.([]any)
	planned := make([]any, len(list))
	for i := range list {
		var before any
		if i < len(old) {
			before = old[i]
		}
		planned[i] = t.Elem.plan(before, list[i])
	}
	return planned
}

func (t *Type) planMap(prior, config any) any {
	m, ok := config.(map[string]any)
	if !ok {
		return config
	}
	old, _ := prior.(map[string]any)
	planned := make(map[string]any, len(m))
	for key := range m {
		planned[key] = t.Elem.plan(old[key], m[key])
	}
	return planned
}

// plan is Type.plan for one attribute. existed is true where the object that
// holds it was there before, so that a null prior value is one that is known.
func (a *Attribute) plan(prior, config any, existed bool) any {
	switch {
	case a.WriteOnly:
		return nil
	case config != nil || !a.Computed:
		return a.Type.plan(prior, config)
	case a.Default != nil:
		return a.Type.plan(prior, a.Default)
	case a.Optional && a.Type.allDefaults():
		return a.Type.plan(prior, map[string]any{})
	case existed:
		return prior
	default:
		return Unknown{}
	}
}

// allDefaults is true for an object that is known though nothing of it was
// written: each of its attributes has a default, or is null.
func (t *Type) allDefaults() bool {
	return t.Kind == Object && !slices.ContainsFunc(t.Attributes, func(a *Attribute) bool {
		return a.Default == nil && (a.Computed || !a.Optional)
	})
}

// fill gives the planned tree with its unknown leaves replaced by what was
// observed. Everything else stays as planned: a front-end's engine compares.
func (t *Type) fill(planned, observed any) any {
	if _, unknown := planned.(Unknown); unknown {
		return observed
	}
	switch t.Kind {
	case Object:
		p, isObject := planned.(map[string]any)
		o, _ := observed.(map[string]any)
		if !isObject {
			return planned
		}
		filled := make(map[string]any, len(p))
		for _, a := range t.Attributes {
			filled[a.Name] = a.Type.fill(p[a.Name], o[a.Name])
		}
		return filled
	case List, Set:
		p, isList := planned.([]any)
		o, _ := observed.([]any)
		if !isList {
			return planned
		}
		filled := make([]any, len(p))
		for i := range p {
			var e any
			if i < len(o) {
				e = o[i]
			}
			filled[i] = t.Elem.fill(p[i], e)
		}
		return filled
	case Map:
		p, isMap := planned.(map[string]any)
		o, _ := observed.(map[string]any)
		if !isMap {
			return planned
		}
		filled := make(map[string]any, len(p))
		for key := range p {
			filled[key] = t.Elem.fill(p[key], o[key])
		}
		return filled
	case Bool, Int, Float, String:
	}
	return planned
}

// refresh gives the state after a read: the observed values, in the state's
// spelling where they are the same by value.
func (t *Type) refresh(state, observed any) any {
	if state == nil || observed == nil {
		if t.same(state, observed) {
			return state
		}
		return observed
	}
	switch t.Kind {
	case Object:
		s, o := state.(map[string]any), observed.(map[string]any)
		refreshed := make(map[string]any, len(t.Attributes))
		for _, a := range t.Attributes {
			if a.index == nil {
				refreshed[a.Name] = s[a.Name]
				continue
			}
			refreshed[a.Name] = a.Type.refresh(s[a.Name], o[a.Name])
		}
		return refreshed
	case List:
		s, o := state.([]any), observed.([]any)
		if len(s) != len(o) {
			return observed
		}
		refreshed := make([]any, len(s))
		for i := range s {
			refreshed[i] = t.Elem.refresh(s[i], o[i])
		}
		return refreshed
	case Map:
		s, o := state.(map[string]any), observed.(map[string]any)
		refreshed := make(map[string]any, len(o))
		for key := range o {
			refreshed[key] = t.Elem.refresh(s[key], o[key])
		}
		return refreshed
	case Bool, Int, Float, String, Set:
	}
	if t.equal(state, observed) {
		return state
	}
	return observed
}

// same is true where both trees decode to the same Go value, as null, an empty
// list and an absent one do.
func (t *Type) same(a, b any) bool {
	x, y := reflect.New(t.goType).Elem(), reflect.New(t.goType).Elem()
	return len(t.decode(a, x, "").problems)+len(t.decode(b, y, "").problems) == 0 &&
		(isZero(x) && isZero(y) || reflect.DeepEqual(x.Interface(), y.Interface()))
}
