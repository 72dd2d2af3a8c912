package pulumi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/provider/definition"
)

// packageSpec and what follows are Pulumi's package schema, as far as the
// definitions need it: https://www.pulumi.com/docs/iac/extending-pulumi/schema/.
type packageSpec struct {
	Name              string                  `json:"name"`
	DisplayName       string                  `json:"displayName"`
	Version           string                  `json:"version,omitempty"`
	Description       string                  `json:"description"`
	Keywords          []string                `json:"keywords"`
	Homepage          string                  `json:"homepage"`
	License           string                  `json:"license"`
	Repository        string                  `json:"repository"`
	PluginDownloadURL string                  `json:"pluginDownloadURL"`
	Publisher         string                  `json:"publisher"`
	Config            configSpec              `json:"config"`
	Types             map[string]*typeSpec    `json:"types"`
	Provider          resourceSpec            `json:"provider"`
	Resources         map[string]resourceSpec `json:"resources"`
	Language          map[string]any          `json:"language"`
}

type configSpec struct {
	Variables map[string]propertySpec `json:"variables"`
}

type typeSpec struct {
	Type        string                  `json:"type"`
	Description string                  `json:"description,omitempty"`
	Properties  map[string]propertySpec `json:"properties"`
	Required    []string                `json:"required,omitempty"`

	from *definition.Type
}

type resourceSpec struct {
	Description     string                  `json:"description,omitempty"`
	Properties      map[string]propertySpec `json:"properties,omitempty"`
	Required        []string                `json:"required,omitempty"`
	InputProperties map[string]propertySpec `json:"inputProperties,omitempty"`
	RequiredInputs  []string                `json:"requiredInputs,omitempty"`
}

type propertySpec struct {
	shape
	Description          string `json:"description,omitempty"`
	Secret               bool   `json:"secret,omitempty"`
	WillReplaceOnChanges bool   `json:"willReplaceOnChanges,omitempty"`
}

type shape struct {
	Type                 string `json:"type,omitempty"`
	Ref                  string `json:"$ref,omitempty"`
	Items                *shape `json:"items,omitempty"`
	AdditionalProperties *shape `json:"additionalProperties,omitempty"`
}

// repository is where the plugin and its SDKs are.
const repository = "github.com/skerry-io/skerry"

var semantic = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+`)

// Schema is the package schema of a provider, as JSON. SDKs and the registry's
// pages are made from it. A version that is none, as during development, is left
// out.
func Schema(p *definition.Provider, version string) ([]byte, error) {
	w := &schemaWriter{names: namesOf(p), types: map[string]*typeSpec{}}
	s := packageSpec{
		Name: p.Name, DisplayName: upper(p.Name), Description: p.Doc, Publisher: "skerry-io", License: "Apache-2.0",
		Keywords: []string{"category/infrastructure", "kind/native", "podman", "libvirt", "containers", "orchestration"},
		Homepage: "https://" + repository, Repository: "https://" + repository, PluginDownloadURL: "github://api.github.com/skerry-io/skerry",
		Types: w.types, Resources: map[string]resourceSpec{},
		Language: map[string]any{
			"go":     map[string]any{"importBasePath": repository + "/sdk/go/" + p.Name, "respectSchemaVersion": true, "generateResourceContainerTypes": true},
			"nodejs": map[string]any{"packageName": "@skerry-io/" + p.Name, "respectSchemaVersion": true},
			"python": map[string]any{"packageName": "pulumi_" + p.Name, "respectSchemaVersion": true, "pyproject": map[string]any{"enabled": true}},
		},
	}
	if semantic.MatchString(version) {
		s.Version = version
	}
	settings, required, err := w.properties(p.Config, "Provider", (*definition.Attribute).Written)
	if err != nil {
		return nil, err
	}
	s.Config.Variables = settings
	s.Provider = resourceSpec{Description: w.names.translate(p.Doc), InputProperties: settings, RequiredInputs: required}
	for _, d := range p.Resources {
		r, err := w.resource(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		s.Resources[w.names.token(d)] = r
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(s)
	return text.Bytes(), err
}

// schemaWriter collects the types of objects while it describes what holds them.
type schemaWriter struct {
	names *names
	types map[string]*typeSpec
}

func (w *schemaWriter) resource(d *definition.Definition) (r resourceSpec, err error) {
	r.Description = w.names.translate(d.Doc) + w.examples(d) + w.importing(d)
	r.InputProperties, r.RequiredInputs, err = w.properties(d.Type, pascal(d.Name), (*definition.Attribute).Written)
	if err != nil {
		return r, err
	}
	r.Properties, _, err = w.properties(d.Type, pascal(d.Name), func(a *definition.Attribute) bool { return !a.Block && !a.WriteOnly && a.Name != id })
	for _, a := range d.Type.Attributes {
		// What is filled in has a value, but where it is the user's choice.
		if _, shown := r.Properties[camel(a.Name)]; shown && (a.Default != nil || !a.Optional) {
			r.Required = append(r.Required, camel(a.Name))
		}
	}
	slices.Sort(r.Required)
	return r, err
}

// importing says how a resource that is there is imported.
func (w *schemaWriter) importing(d *definition.Definition) string {
	if !d.Importable() {
		return ""
	}
	return fmt.Sprintf("\n\n## Import\n\n%s\n\n```sh\n$ pulumi import %s NAME ID\n```\n", w.names.translate(d.ImportID), w.names.token(d))
}

// properties describes the attributes of an object that are to be shown. owner
// is the resource that they belong to.
func (w *schemaWriter) properties(t *definition.Type, owner string, shown func(*definition.Attribute) bool) (map[string]propertySpec, []string, error) {
	all := map[string]propertySpec{}
	var required []string
	for _, a := range t.Attributes {
		if !shown(a) {
			continue
		}
		s, err := w.shape(a.Type, owner)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", a.Name, err)
		}
		all[camel(a.Name)] = propertySpec{shape: s, Description: w.description(a), Secret: a.Sensitive, WillReplaceOnChanges: a.Replace}
		if a.Required() {
			required = append(required, camel(a.Name))
		}
	}
	slices.Sort(required)
	return all, required, nil
}

// description is the doc comment, with what the type doesn't say.
func (w *schemaWriter) description(a *definition.Attribute) string {
	text := w.names.translate(a.Doc)
	switch v := a.Default.(type) {
	case nil:
	case *big.Float:
		text += fmt.Sprintf(" Default: `%s`.", v.Text('f', -1))
	default:
		text += fmt.Sprintf(" Default: `%v`.", v)
	}
	if a.WriteOnly {
		text += " It is kept as an encrypted input, and shown nowhere."
	}
	return strings.TrimSpace(text)
}

func (w *schemaWriter) shape(t *definition.Type, owner string) (s shape, err error) {
	var inner shape
	if t.Elem != nil {
		if inner, err = w.shape(t.Elem, owner); err != nil {
			return s, err
		}
	}
	switch t.Kind {
	case definition.Bool:
		s.Type = "boolean"
	case definition.Int:
		s.Type = "integer"
	case definition.Float:
		s.Type = "number"
	case definition.String:
		s.Type = "string"
	case definition.List, definition.Set:
		s.Type, s.Items = "array", &inner
	case definition.Map:
		s.Type, s.AdditionalProperties = "object", &inner
	case definition.Object:
		s.Ref, err = w.object(t, owner)
	}
	return s, err
}

// object describes an object as a type of its own, named after the Go type and
// the resource that it belongs to.
func (w *schemaWriter) object(t *definition.Type, owner string) (ref string, err error) {
	token := w.names.provider + ":index:" + typeName(t, owner)
	ref = "#/types/" + token
	if there := w.types[token]; there != nil {
		if there.from.GoName() != t.GoName() {
			return "", fmt.Errorf("the types %s and %s would both be %s in Pulumi: rename one", t.GoName(), there.from.GoName(), token)
		}
		return ref, nil
	}
	spec := &typeSpec{Type: "object", from: t}
	w.types[token] = spec
	spec.Properties, spec.Required, err = w.properties(t, owner, func(*definition.Attribute) bool { return true })
	return ref, err
}

func typeName(t *definition.Type, owner string) string {
	return owner + strings.TrimPrefix(pascal(t.GoName()), owner)
}
