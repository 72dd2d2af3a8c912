package terraform

import (
	"github.com/hashicorp/terraform-plugin-framework/attr"
	providerschema "github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/skerry-io/skerry/provider/definition"
)

func resourceSchema(d *definition.Definition) schema.Schema {
	s := schema.Schema{MarkdownDescription: d.Doc, Attributes: map[string]schema.Attribute{}, Blocks: map[string]schema.Block{}}
	for _, a := range d.Type.Attributes {
		if a.Block {
			s.Blocks[a.Name] = schema.SingleNestedBlock{MarkdownDescription: a.Doc, Attributes: attributes(a.Type)}
			continue
		}
		s.Attributes[a.Name] = attribute(a)
	}
	return s
}

func attributes(t *definition.Type) map[string]schema.Attribute {
	all := make(map[string]schema.Attribute, len(t.Attributes))
	for _, a := range t.Attributes {
		all[a.Name] = attribute(a)
	}
	return all
}

// elements describes what an object in a list or map holds. Nothing of it is
// required here: the framework takes what is required as missing from an object
// that isn't known yet. The definition's own validation finds what is missing.
func elements(t *definition.Type) schema.NestedAttributeObject {
	all := make(map[string]schema.Attribute, len(t.Attributes))
	for _, a := range t.Attributes {
		free := *a
		free.Optional = a.Optional || a.Required()
		all[a.Name] = attribute(&free)
	}
	return schema.NestedAttributeObject{Attributes: all}
}

func attribute(a *definition.Attribute) schema.Attribute {
	required, optional, computed, sensitive, writeOnly, doc := a.Required(), a.Optional, a.Computed, a.Sensitive, a.WriteOnly, a.Doc
	switch a.Type.Kind {
	case definition.Bool:
		return schema.BoolAttribute{Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.Int: // Int64Attribute would refuse a fraction with words that blame the plugin
		return schema.NumberAttribute{Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.Float:
		return schema.Float64Attribute{Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.Set:
		return schema.SetAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Object:
		return schema.SingleNestedAttribute{Attributes: attributes(a.Type), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.List:
		if a.Type.Elem.Kind == definition.Object {
			return schema.ListNestedAttribute{NestedObject: elements(a.Type.Elem), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
		}
		return schema.ListAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.Map:
		if a.Type.Elem.Kind == definition.Object {
			return schema.MapNestedAttribute{NestedObject: elements(a.Type.Elem), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
		}
		return schema.MapAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
	case definition.String:
	}
	return schema.StringAttribute{Required: required, Optional: optional, Computed: computed, Sensitive: sensitive, WriteOnly: writeOnly, MarkdownDescription: doc}
}

// elementType gives the type of what a list, set or map of scalars holds.
func elementType(t *definition.Type) attr.Type {
	switch t.Kind {
	case definition.Bool:
		return types.BoolType
	case definition.Int:
		return types.NumberType
	case definition.Float:
		return types.Float64Type
	case definition.List:
		return types.ListType{ElemType: elementType(t.Elem)}
	case definition.Map:
		return types.MapType{ElemType: elementType(t.Elem)}
	case definition.String, definition.Set, definition.Object: // the definition refuses the last two here
	}
	return types.StringType
}

func providerSchema(p *definition.Provider) providerschema.Schema {
	s := providerschema.Schema{MarkdownDescription: p.Doc, Attributes: map[string]providerschema.Attribute{}}
	for _, a := range p.Config.Attributes {
		s.Attributes[a.Name] = providerAttribute(a)
	}
	return s
}

func providerAttribute(a *definition.Attribute) providerschema.Attribute {
	required, optional, sensitive, doc := a.Required(), a.Optional, a.Sensitive, a.Doc
	switch a.Type.Kind {
	case definition.Bool:
		return providerschema.BoolAttribute{Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Int:
		return providerschema.NumberAttribute{Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Float:
		return providerschema.Float64Attribute{Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Set:
		return providerschema.SetAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.List:
		return providerschema.ListAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Map:
		return providerschema.MapAttribute{ElementType: elementType(a.Type.Elem), Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.Object:
		nested := map[string]providerschema.Attribute{}
		for _, child := range a.Type.Attributes {
			nested[child.Name] = providerAttribute(child)
		}
		return providerschema.SingleNestedAttribute{Attributes: nested, Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
	case definition.String:
	}
	return providerschema.StringAttribute{Required: required, Optional: optional, Sensitive: sensitive, MarkdownDescription: doc}
}
