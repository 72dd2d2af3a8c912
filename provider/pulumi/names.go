package pulumi

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// names translates between the names of the definitions and those of Pulumi:
// data_disk is dataDisk, skerry_node is skerry:index:Node, and the attribute id
// of a resource is the ID that every resource of Pulumi has.
type names struct {
	provider string
	// attributes holds the camelCase of each attribute whose name differs.
	attributes map[string]string
	// resources holds the type of each resource, by its name in Terraform.
	resources map[string]string
}

func namesOf(p *definition.Provider) *names {
	n := &names{provider: p.Name, attributes: map[string]string{timeouts: customTimeouts}, resources: map[string]string{}}
	n.add(p.Config)
	for _, d := range p.Resources {
		n.resources[p.Name+"_"+d.Name] = pascal(d.Name)
		n.add(d.Type)
	}
	return n
}

func (n *names) add(t *definition.Type) {
	if t == nil {
		return
	}
	n.add(t.Elem)
	for _, a := range t.Attributes {
		if name := camel(a.Name); name != a.Name {
			n.attributes[a.Name] = name
		}
		n.add(a.Type)
	}
}

// The deadlines of calls are a block of the resource for Terraform, and an
// option of every resource for Pulumi.
const (
	timeouts       = "timeouts"
	customTimeouts = "customTimeouts"
)

// id is the name of the attribute that is Pulumi's ID, and urn is taken too.
const (
	id  = "id"
	urn = "urn"
)

// check refuses definitions that can't be served under Pulumi's names.
func (n *names) check(p *definition.Provider) error {
	for _, d := range p.Resources {
		if d.Type.Attribute(id) == nil && d.Type.Attribute("name") == nil {
			return fmt.Errorf("serve %s: it has neither an id nor a name, so it would have no ID in Pulumi", d.Name)
		}
		if a := d.Type.Attribute(id); a != nil && (a.Written() || a.Type.Kind != definition.String) {
			return fmt.Errorf("serve %s: its id is not a computed string, which an ID of Pulumi is", d.Name)
		}
		if err := n.checkType(d.Type, d.Name); err != nil {
			return err
		}
	}
	return n.checkType(p.Config, "provider")
}

func (n *names) checkType(t *definition.Type, path string) error {
	if t == nil {
		return nil
	}
	seen := map[string]bool{urn: true}
	for _, a := range t.Attributes {
		name := camel(a.Name)
		if seen[name] {
			return fmt.Errorf("serve %s.%s: the name %s is taken in Pulumi", path, a.Name, name)
		}
		seen[name] = true
		if err := n.checkType(a.Type, path+"."+a.Name); err != nil {
			return err
		}
	}
	return n.checkType(t.Elem, path)
}

// token is the type of a resource, as in skerry:index:Node.
func (n *names) token(d *definition.Definition) string {
	return n.provider + ":index:" + pascal(d.Name)
}

// camel and pascal give dataDisk and DataDisk of data_disk.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i := 1; i < len(words); i++ {
		words[i] = upper(words[i])
	}
	return strings.Join(words, "")
}

func pascal(name string) string { return upper(camel(name)) }

func upper(word string) string {
	if word == "" {
		return word
	}
	return strings.ToUpper(word[:1]) + word[1:]
}

// attribute finds an attribute by its name in Pulumi.
func attribute(t *definition.Type, name string) *definition.Attribute {
	i := slices.IndexFunc(t.Attributes, func(a *definition.Attribute) bool { return camel(a.Name) == name })
	if i < 0 {
		return nil
	}
	return t.Attributes[i]
}

// propertyPath writes a path as the engine does: dataDisk.size, ports[0].target,
// labels["a.b"].
func propertyPath(path definition.Path) string {
	var b strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case *definition.Attribute:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(camel(step.Name))
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		case string:
			b.WriteString("[" + strconv.Quote(step) + "]")
		}
	}
	return b.String()
}

var (
	snakeWord = regexp.MustCompile(`\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b|\btimeouts\b`)
	// importCommand is the command of Terraform that a message may advise.
	importCommand = regexp.MustCompile(`\bterraform import ([a-z0-9]+_[a-z0-9_]+)\.(\S+)`)
	keyOfPath     = regexp.MustCompile(`\["(?:[^"\\]|\\.)*"\]`)
)

// translate gives a text with the names that Pulumi's users write.
func (n *names) translate(text string) string {
	text = importCommand.ReplaceAllStringFunc(text, func(command string) string {
		parts := importCommand.FindStringSubmatch(command)
		return fmt.Sprintf("pulumi import %s:index:%s %s", n.provider, n.resources[parts[1]], parts[2])
	})
	return snakeWord.ReplaceAllStringFunc(text, func(word string) string {
		if name, found := n.attributes[word]; found {
			return name
		}
		if name, found := n.resources[word]; found {
			return n.provider + "." + name
		}
		return word
	})
}

// path gives the path of a problem in Pulumi's names. What stands in brackets
// are the user's own keys.
func (n *names) path(path string) string {
	var b strings.Builder
	for {
		at := keyOfPath.FindStringIndex(path)
		if at == nil {
			b.WriteString(n.translate(path))
			return b.String()
		}
		b.WriteString(n.translate(path[:at[0]]) + path[at[0]:at[1]])
		path = path[at[1]:]
	}
}

// problem gives a problem in Pulumi's names.
func (n *names) problem(p resources.Problem) resources.Problem {
	return resources.Problem{Path: n.path(p.Path), Reason: n.translate(p.Reason)}
}
