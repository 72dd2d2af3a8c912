package definition

// Written is what a user has to write for the state, for an engine that keeps
// what was written: as it was written before where that says the same, and
// nothing for what would come about by itself. before is nil where nothing was.
func (d *Definition) Written(before, state any) any {
	return d.Type.written(before, state)
}

func (t *Type) written(before, state any) any {
	if before != nil && t.equal(before, state) {
		return before
	}
	switch t.Kind {
	case Object:
		was, _ := before.(map[string]any)
		has, isObject := state.(map[string]any)
		if !isObject {
			return state
		}
		object := map[string]any{}
		for _, a := range t.Attributes {
			if v := a.written(was[a.Name], has[a.Name]); v != nil {
				object[a.Name] = v
			}
		}
		return object
	case List:
		was, _ := before.([]any)
		has, isList := state.([]any)
		if !isList {
			return state
		}
		list := make([]any, len(has))
		for i := range has {
			list[i] = t.Elem.written(elementAt(was, i), has[i])
		}
		return list
	case Map:
		was, _ := before.(map[string]any)
		has, isMap := state.(map[string]any)
		if !isMap {
			return state
		}
		m := make(map[string]any, len(has))
		for key := range has {
			m[key] = t.Elem.written(was[key], has[key])
		}
		return m
	case Bool, Int, Float, String, Set:
	}
	return state
}

// written is Type.written for one attribute.
func (a *Attribute) written(before, state any) any {
	switch {
	case !a.Written():
		return nil
	case a.WriteOnly:
		return before
	case before == nil && a.Computed && a.Default == nil:
		return nil
	case before == nil && !a.Required() && a.Type.equal(state, a.plan(nil, nil, false)):
		return nil
	default:
		return a.Type.written(before, state)
	}
}
