package terraform

import (
	"fmt"
	"math/big"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/skerry-io/skerry/provider/definition"
)

// treeOf converts a wire value to a tree; see package definition.
func treeOf(v tftypes.Value) (any, error) {
	if !v.IsKnown() {
		return definition.Unknown{}, nil
	}
	if v.IsNull() {
		return nil, nil
	}
	switch t := v.Type(); {
	case t.Is(tftypes.String):
		return scalarOf[string](v)
	case t.Is(tftypes.Bool):
		return scalarOf[bool](v)
	case t.Is(tftypes.Number):
		return scalarOf[*big.Float](v)
	case t.Is(tftypes.List{}), t.Is(tftypes.Set{}):
		values, err := scalarOf[[]tftypes.Value](v)
		if err != nil {
			return nil, err
		}
		list := make([]any, len(values))
		for i, e := range values {
			if list[i], err = treeOf(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	case t.Is(tftypes.Map{}), t.Is(tftypes.Object{}):
		values, err := scalarOf[map[string]tftypes.Value](v)
		if err != nil {
			return nil, err
		}
		m := make(map[string]any, len(values))
		for key, e := range values {
			if m[key], err = treeOf(e); err != nil {
				return nil, err
			}
		}
		return m, nil
	default:
		return nil, fmt.Errorf("read a value of type %s: no attribute has this type", t)
	}
}

func scalarOf[T any](v tftypes.Value) (T, error) {
	var value T
	err := v.As(&value)
	return value, err
}

// valueOf converts a tree to a wire value of type t; it is the inverse of
// treeOf.
func valueOf(t tftypes.Type, tree any) tftypes.Value {
	switch v := tree.(type) {
	case definition.Unknown:
		return tftypes.NewValue(t, tftypes.UnknownValue)
	case []any:
		var elem tftypes.Type
		switch t := t.(type) {
		case tftypes.List:
			elem = t.ElementType
		case tftypes.Set:
			elem = t.ElementType
		}
		values := make([]tftypes.Value, len(v))
		for i, e := range v {
			values[i] = valueOf(elem, e)
		}
		return tftypes.NewValue(t, values)
	case map[string]any:
		values := map[string]tftypes.Value{}
		switch t := t.(type) {
		case tftypes.Map:
			for key, e := range v {
				values[key] = valueOf(t.ElementType, e)
			}
		case tftypes.Object:
			for key, attribute := range t.AttributeTypes {
				values[key] = valueOf(attribute, v[key])
			}
		}
		return tftypes.NewValue(t, values)
	default:
		return tftypes.NewValue(t, tree)
	}
}
