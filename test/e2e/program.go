package e2e

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// program is what a user wants, in a form that both engines can be given: see
// hcl and pulumi.
type program []block

// block is one resource. Names are those of the definitions, and a text such as
// ${cluster.home.endpoint} is an attribute of another block.
type block struct {
	kind, name string
	properties map[string]any
}

var referenceText = regexp.MustCompile(`^\$\{([a-z]+)\.([a-z]+)\.([a-z_]+)\}$`)

// hcl is the program for Terraform.
func (p program) hcl() string {
	var b strings.Builder
	for _, r := range p {
		fmt.Fprintf(&b, "resource \"skerry_%s\" %q {\n", r.kind, r.name)
		for _, name := range slices.Sorted(maps.Keys(r.properties)) {
			fmt.Fprintf(&b, "  %s = %s\n", name, hclValue(r.properties[name]))
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func hclValue(v any) string {
	switch v := v.(type) {
	case string:
		if parts := referenceText.FindStringSubmatch(v); parts != nil {
			return fmt.Sprintf("skerry_%s.%s.%s", parts[1], parts[2], parts[3])
		}
		return fmt.Sprintf("%q", v)
	case []any:
		all := make([]string, len(v))
		for i, e := range v {
			all[i] = hclValue(e)
		}
		return "[" + strings.Join(all, ", ") + "]"
	case map[string]any:
		var all []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			all = append(all, name+" = "+hclValue(v[name]))
		}
		return "{ " + strings.Join(all, ", ") + " }"
	default:
		return fmt.Sprint(v)
	}
}

// thing is any resource of skerry, with the outputs that programs refer to.
type thing struct {
	pulumi.CustomResourceState
	Name      pulumi.StringOutput `pulumi:"name"`
	Endpoint  pulumi.StringOutput `pulumi:"endpoint"`
	Reference pulumi.StringOutput `pulumi:"reference"`
}

func (t *thing) output(name string) pulumi.Input {
	return map[string]pulumi.Input{"name": t.Name, "endpoint": t.Endpoint, "reference": t.Reference}[name]
}

// pulumi is the program for Pulumi. imports are the IDs of blocks that are to be
// imported, by kind.name.
func (p program) pulumi(imports map[string]string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		made := map[string]*thing{}
		for _, r := range p {
			address := r.kind + "." + r.name
			made[address] = &thing{}
			properties := pulumi.Map{}
			for name, v := range r.properties {
				properties[camel(name)] = pulumiValue(made, v)
			}
			var options []pulumi.ResourceOption
			if id := imports[address]; id != "" {
				options = append(options, pulumi.Import(pulumi.ID(id)))
			}
			token := "skerry:index:" + strings.ToUpper(r.kind[:1]) + r.kind[1:]
			if err := ctx.RegisterResource(token, r.name, properties, made[address], options...); err != nil {
				return err
			}
		}
		return nil
	}
}

func pulumiValue(made map[string]*thing, v any) pulumi.Input {
	switch v := v.(type) {
	case string:
		if parts := referenceText.FindStringSubmatch(v); parts != nil {
			return made[parts[1]+"."+parts[2]].output(parts[3])
		}
		return pulumi.String(v)
	case []any:
		list := make(pulumi.Array, len(v))
		for i, e := range v {
			list[i] = pulumiValue(made, e)
		}
		return list
	case map[string]any:
		m := pulumi.Map{}
		for name, e := range v {
			m[camel(name)] = pulumiValue(made, e)
		}
		return m
	case int:
		return pulumi.Int(v)
	case bool:
		return pulumi.Bool(v)
	}
	panic(fmt.Sprintf("a program has no %T", v))
}

// snakeWord is a name in the form of the definitions.
var snakeWord = regexp.MustCompile(`\b[a-z]+(_[a-z]+)+\b`)

// camel gives the names in a text as Pulumi has them.
func camel(text string) string {
	return snakeWord.ReplaceAllStringFunc(text, func(name string) string {
		words := strings.Split(name, "_")
		for i := 1; i < len(words); i++ {
			words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
		}
		return strings.Join(words, "")
	})
}
