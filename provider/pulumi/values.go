package pulumi

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// received is a map of properties that the engine sent.
type received struct {
	// properties as they came, without null values.
	properties resource.PropertyMap
	// tree of the same; see package definition.
	tree map[string]any
	// secrets is what of it the engine, or the user, calls secret.
	secrets secrets
	// strange holds a problem for each property that is no attribute, in Pulumi's
	// names.
	strange resources.Problems
}

// secrets knows values that have to be hidden.
type secrets struct {
	// paths are the keys of the places of secret values.
	paths map[string]bool
	// texts are the values.
	texts []string
}

var wire = plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, SkipNulls: true}

// receive reads a map of properties of an object of type t.
func receive(t *definition.Type, properties *structpb.Struct) (*received, error) {
	m, err := plugin.UnmarshalProperties(properties, wire)
	if err != nil {
		return nil, fmt.Errorf("read the properties: %w", err)
	}
	return receiveMap(t, m), nil
}

func receiveMap(t *definition.Type, m resource.PropertyMap) *received {
	r := &received{properties: m, secrets: secrets{paths: map[string]bool{}}}
	r.tree, _ = r.object(t, m, place{}).(map[string]any)
	return r
}

// value converts a property to a tree. What no attribute can be stays as it is:
// the definition says what is wrong with it.
func (r *received) value(t *definition.Type, v resource.PropertyValue, at place) any {
	switch {
	case v.IsSecret():
		return r.secret(t, v.SecretValue().Element, at)
	case v.IsOutput():
		output := v.OutputValue()
		switch {
		case !output.Known:
			return definition.Unknown{}
		case output.Secret:
			return r.secret(t, output.Element, at)
		default:
			return r.value(t, output.Element, at)
		}
	case v.IsComputed():
		return definition.Unknown{}
	case v.IsNull():
		return nil
	case v.IsBool():
		return v.BoolValue()
	case v.IsNumber():
		return big.NewFloat(v.NumberValue())
	case v.IsString():
		return v.StringValue()
	case v.IsArray():
		list := make([]any, len(v.ArrayValue()))
		for i, e := range v.ArrayValue() {
			list[i] = r.value(element(t), e, at.element(i))
		}
		return list
	case v.IsObject():
		return r.object(t, v.ObjectValue(), at)
	}
	return v
}

// secret converts the value of a secret, and notes it.
func (r *received) secret(t *definition.Type, v resource.PropertyValue, at place) any {
	r.secrets.paths[at.key] = true
	tree := r.value(t, v, at)
	r.secrets.note(tree)
	return tree
}

func (r *received) object(t *definition.Type, m resource.PropertyMap, at place) any {
	object := make(map[string]any, len(m))
	for _, key := range m.StableKeys() {
		name := string(key)
		if t == nil || t.Kind != definition.Object {
			object[name] = r.value(element(t), m[key], at.under(name))
			continue
		}
		if strings.HasPrefix(name, "__") { // the engine's own
			continue
		}
		a := attribute(t, name)
		if a == nil || a.Block {
			r.stranger(t, at.attribute(name).text, name)
			continue
		}
		v := r.value(a.Type, m[key], at.attribute(name))
		if a.Sensitive {
			r.secrets.note(v)
		}
		object[a.Name] = v
	}
	return object
}

// stranger notes a property that is no attribute.
func (r *received) stranger(t *definition.Type, path, name string) {
	i := slices.IndexFunc(t.Attributes, func(a *definition.Attribute) bool {
		return strings.EqualFold(strings.ReplaceAll(a.Name, "_", ""), strings.ReplaceAll(name, "_", ""))
	})
	switch {
	case name == timeouts || name == customTimeouts:
		r.strange.Addf(path, "is an option of the resource (customTimeouts), and none of its properties")
	case i >= 0:
		r.strange.Addf(path, "is not known here; write %s", camel(t.Attributes[i].Name))
	default:
		r.strange.Addf(path, "is not known here; leave it out")
	}
}

func element(t *definition.Type) *definition.Type {
	if t == nil {
		return nil
	}
	return t.Elem
}

// place is where a value stands.
type place struct {
	// text is for people.
	text string
	// key is the same for all that is in a list: it is secret as a whole, because
	// its elements may change their places.
	key    string
	listed bool
}

func (p place) attribute(name string) place {
	if p.text == "" {
		return place{text: name, key: name}
	}
	return p.inner("."+name, name)
}

func (p place) under(key string) place { return p.inner("["+strconv.Quote(key)+"]", key) }

func (p place) element(i int) place {
	return place{text: fmt.Sprintf("%s[%d]", p.text, i), key: p.key, listed: true}
}

func (p place) inner(text, key string) place {
	p.text += text
	if !p.listed {
		p.key = beneath(p.key, key)
	}
	return p
}

func beneath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "\x00" + name
}

// shortestSecret is the length in bytes from which on a secret text is looked
// for in messages: a shorter one is found in any.
const shortestSecret = 4

// note takes every text in a secret value.
func (s *secrets) note(tree any) {
	switch v := tree.(type) {
	case string:
		if len(v) >= shortestSecret && !slices.Contains(s.texts, v) {
			s.texts = append(s.texts, v)
		}
	case []any:
		for _, e := range v {
			s.note(e)
		}
	case map[string]any:
		for _, e := range v {
			s.note(e)
		}
	}
}

// merge gives the secrets of both.
func (s *secrets) merge(other secrets) secrets {
	merged := secrets{paths: map[string]bool{}, texts: slices.Concat(s.texts, other.texts)}
	for _, one := range []map[string]bool{s.paths, other.paths} {
		for path := range one {
			merged.paths[path] = true
		}
	}
	return merged
}

// redact gives a text without what is secret.
func (s *secrets) redact(text string) string {
	for _, secret := range s.texts {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}

// properties converts the tree of a resource to properties, with secrets marked.
// Null values are left out, and what is written only, too.
func properties(t *definition.Type, tree map[string]any, hide secrets) resource.PropertyMap {
	return hide.object(t, tree, "")
}

func (s *secrets) object(t *definition.Type, tree map[string]any, path string) resource.PropertyMap {
	m := resource.PropertyMap{}
	for _, a := range t.Attributes {
		if v := tree[a.Name]; v != nil && !a.Block {
			name := camel(a.Name)
			m[resource.PropertyKey(name)] = conceal(a, s.property(a.Type, v, beneath(path, name)))
		}
	}
	return m
}

func (s *secrets) property(t *definition.Type, tree any, path string) resource.PropertyValue {
	v := s.plain(t, tree, path)
	if s.paths[path] {
		return secretOf(v)
	}
	return v
}

func (s *secrets) plain(t *definition.Type, tree any, path string) resource.PropertyValue {
	switch v := tree.(type) {
	case definition.Unknown:
		return resource.MakeComputed(resource.NewStringProperty(""))
	case bool:
		return resource.NewBoolProperty(v)
	case *big.Float:
		f, _ := v.Float64()
		return resource.NewNumberProperty(f)
	case string:
		return resource.NewStringProperty(v)
	case []any:
		list := make([]resource.PropertyValue, len(v))
		for i, e := range v {
			list[i] = s.plain(element(t), e, path)
		}
		return resource.NewArrayProperty(list)
	case map[string]any:
		if t != nil && t.Kind == definition.Object {
			return resource.NewObjectProperty(s.object(t, v, path))
		}
		m := resource.PropertyMap{}
		for key, e := range v {
			m[resource.PropertyKey(key)] = s.property(element(t), e, beneath(path, key))
		}
		return resource.NewObjectProperty(m)
	}
	return resource.NewNullProperty()
}

// conceal marks the value of a sensitive attribute.
func conceal(a *definition.Attribute, v resource.PropertyValue) resource.PropertyValue {
	if a.Sensitive {
		return secretOf(v)
	}
	return v
}

func secretOf(v resource.PropertyValue) resource.PropertyValue {
	if v.IsSecret() || v.IsComputed() || v.IsOutput() && v.OutputValue().Secret {
		return v
	}
	return resource.MakeSecret(v)
}

// concealed gives what the user wrote, unchanged, with the values of sensitive
// attributes marked.
func concealed(t *definition.Type, v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return resource.MakeSecret(concealed(t, v.SecretValue().Element))
	case v.IsArray():
		list := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, e := range v.ArrayValue() {
			list[i] = concealed(element(t), e)
		}
		return resource.NewArrayProperty(list)
	case v.IsObject():
		m := resource.PropertyMap{}
		for key, e := range v.ObjectValue() {
			if t != nil && t.Kind == definition.Object {
				if a := attribute(t, string(key)); a != nil {
					m[key] = conceal(a, concealed(a.Type, e))
					continue
				}
			}
			m[key] = concealed(element(t), e)
		}
		return resource.NewObjectProperty(m)
	}
	return v
}

func send(m resource.PropertyMap) (*structpb.Struct, error) {
	s, err := plugin.MarshalProperties(m, wire)
	if err != nil {
		return nil, fmt.Errorf("write the properties: %w", err)
	}
	return s, nil
}
