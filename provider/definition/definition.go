// Package definition turns a Go struct into a resource that any front-end can
// serve. Package terraform serves it over Terraform's protocol; a Pulumi
// front-end comes beside it. Both only convert their wire values to a neutral
// tree (see tree.go) and back: the schema, defaults, validation, the plan and
// the state after an apply are made here, once.
//
// A field is an attribute. Its `json` tag is its name, its doc comment is its
// documentation, and its `iac` tag holds words with commas between:
//
//	(nothing)    the user has to write it
//	optional     the user may leave it out
//	computed     the resource fills it in; with optional, only where it was left out
//	default=V    the value where it was left out; such an attribute is optional
//	replace      a change replaces the resource
//	volatile     computed, of the resource itself, and may change with any update
//	sensitive    hidden wherever people look
//	writeonly    reaches Create and Update, and is kept nowhere; with
//	version=A    naming the attribute beside it whose change sends it again
//	set          a list without an order
//
// Embedded structs are flattened. A type that reads and writes itself as text
// is a string that is compared by value. Pointers, slices and maps may be null;
// null decodes to the zero value of anything else. The one block is timeouts.
//
// Refused at start: objects and secrets in sets, and computed values in lists
// that the user writes, since nothing ties such a value in the plan to the one
// in the state; and words that contradict each other or would do nothing.
//
// The state after an apply is the planned tree with only its unknown leaves
// filled in, so that what the user wrote stays as it was written.
package definition

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Resource defines a kind of resource by its struct S, under a provider whose
// configuration became a C. Every function may be nil but Create, Read and
// Delete.
type Resource[C, S any] struct {
	// Name is the noun, as in "node".
	Name string
	// Doc says what the resource is, for its reference page.
	Doc string
	// ImportID says what the ID of an import is, for the reference page.
	ImportID string
	// Timeouts are the deadlines of the calls unless the user sets others.
	Timeouts Timeouts
	// Check returns every problem with what the user wrote. Values that are
	// not known yet are zero; problems with them are dropped.
	Check func(spec *S) resources.Problems
	// Plan looks at a create or an update before the user sees it.
	Plan func(ctx context.Context, config C, p *Planning[S]) resources.Problems
	// Clash is true where the resource and its replacement of another name can't
	// be there at the same time, because both hold something that only one may.
	// Nil means that names are all that matters.
	Clash func(p *Planning[S]) bool
	// Create makes the resource and fills in its computed fields. An error that
	// wraps a Partial keeps what was made in the state.
	Create func(ctx context.Context, config C, spec *S) error
	// Read fills spec, which holds the state, with what is there now. Not found
	// is definite; what can't be asked keeps its state, with a warning.
	Read func(ctx context.Context, config C, spec *S) (Reading, error)
	// Update makes the resource what planned says, and fills in its computed
	// fields. After an error the state keeps the prior values.
	Update func(ctx context.Context, config C, prior, planned *S) error
	// Delete removes the resource. One that is gone already is no error.
	Delete func(ctx context.Context, config C, spec *S) (warnings []string, err error)
	// Import finds what the ID names.
	Import func(ctx context.Context, config C, id string) (*S, error)
}

// Reading is the result of a Read.
type Reading struct {
	// Gone is true where the resource is definitely not there.
	Gone bool
	// Warnings are shown, and fail nothing.
	Warnings []string
}

// Partial is the error of a Create that has made something, so that the state
// has to keep it.
type Partial struct{ Err error }

func (p *Partial) Error() string { return p.Err.Error() }

// Unwrap gives the error of the create.
func (p *Partial) Unwrap() error { return p.Err }

// Timeouts are deadlines of a resource's calls. Zero means DefaultTimeout.
type Timeouts struct{ Create, Read, Update, Delete time.Duration }

// DefaultTimeout is the deadline of a call whose resource names none: that of
// Terraform's own SDK.
const DefaultTimeout = 20 * time.Minute

// reservedNames are those that mean something else in a resource's block, in
// Terraform's language or here.
var reservedNames = []string{"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioner", timeoutsName}

// timeoutsName is the name of the one block.
const timeoutsName = "timeouts"

// timeouts is the block that users write.
type timeouts struct {
	Create resources.Duration `json:"create,omitempty" iac:"optional"`
	Read   resources.Duration `json:"read,omitempty" iac:"optional"`
	Update resources.Duration `json:"update,omitempty" iac:"optional"`
	Delete resources.Duration `json:"delete,omitempty" iac:"optional"`
}

// Definition is a Resource of any struct, as the front-ends serve it.
type Definition struct {
	Name, Doc, ImportID string
	Type                *Type
	// Example is what a user may write, for the documentation. A text such as
	// ${home.endpoint} stands for an attribute of another resource.
	Example map[string]any

	timeouts Timeouts
	ops      operations
}

// operations are a Resource's functions with their types erased. Each spec is a
// pointer to the resource's struct.
type operations struct {
	check    func(spec any) resources.Problems
	plan     func(ctx context.Context, config any, p *planning) resources.Problems
	clash    func(p *planning) bool
	create   func(ctx context.Context, config, spec any) error
	read     func(ctx context.Context, config, spec any) (Reading, error)
	update   func(ctx context.Context, config, prior, planned any) error
	delete   func(ctx context.Context, config, spec any) ([]string, error)
	importer func(ctx context.Context, config any, id string) (any, error)
}

// Define checks the resource and returns its definition. docs holds the doc
// comments by "Type.Field", as docgen writes them. A struct that can't be
// served is an error that names the field.
func (r Resource[C, S]) Define(docs map[string]string) (*Definition, error) {
	t, err := typeOf(reflect.TypeFor[S](), docs)
	if err != nil {
		return nil, fmt.Errorf("define %s: %w", r.Name, err)
	}
	if err := t.check("", false); err != nil {
		return nil, fmt.Errorf("define %s: %w", r.Name, err)
	}
	if r.Create == nil || r.Read == nil || r.Delete == nil {
		return nil, fmt.Errorf("define %s: Create, Read and Delete are needed", r.Name)
	}
	for _, name := range reservedNames {
		if t.Attribute(name) != nil {
			return nil, fmt.Errorf("define %s: %s: Terraform and the plugins keep this name for themselves", r.Name, name)
		}
	}
	t.Attributes = append(t.Attributes, timeoutsBlock())
	return &Definition{Name: r.Name, Doc: r.Doc, ImportID: r.ImportID, Type: t, timeouts: r.Timeouts, ops: r.erase()}, nil
}

func timeoutsBlock() *Attribute {
	t, err := typeOf(reflect.TypeFor[timeouts](), map[string]string{
		"timeouts.Create": "How long a create may take.",
		"timeouts.Read":   "How long a read may take.",
		"timeouts.Update": "How long an update may take.",
		"timeouts.Delete": "How long a delete may take.",
	})
	if err != nil {
		panic(err) // the struct stands above
	}
	return &Attribute{Name: timeoutsName, Doc: "How long each call may take, as in `30s` or `1h30m`.", Type: t, Optional: true, Block: true}
}

func (r Resource[C, S]) erase() operations {
	o := operations{
		check: func(spec any) resources.Problems {
			if r.Check == nil {
				return nil
			}
			return r.Check(spec.(*S))
		},
		plan: func(ctx context.Context, config any, p *planning) resources.Problems {
			if r.Plan == nil || config == nil {
				return nil
			}
			return r.Plan(ctx, config.(C), typed[S](p))
		},
		create: func(ctx context.Context, config, spec any) error { return r.Create(ctx, config.(C), spec.(*S)) },
		read: func(ctx context.Context, config, spec any) (Reading, error) {
			return r.Read(ctx, config.(C), spec.(*S))
		},
		delete: func(ctx context.Context, config, spec any) ([]string, error) {
			return r.Delete(ctx, config.(C), spec.(*S))
		},
	}
	if r.Update != nil {
		o.update = func(ctx context.Context, config, prior, planned any) error {
			return r.Update(ctx, config.(C), prior.(*S), planned.(*S))
		}
	}
	if r.Clash != nil {
		o.clash = func(p *planning) bool { return r.Clash(typed[S](p)) }
	}
	if r.Import != nil {
		o.importer = func(ctx context.Context, config any, id string) (any, error) { return r.Import(ctx, config.(C), id) }
	}
	return o
}

func typed[S any](p *planning) *Planning[S] {
	typed := &Planning[S]{Planned: p.plannedSpec.(*S), planning: p}
	if p.priorSpec != nil {
		typed.Prior = p.priorSpec.(*S)
	}
	return typed
}

// Undocumented lists the paths of the attributes that have no doc comment.
func (t *Type) Undocumented() []string { return t.undocumented("") }

func (t *Type) undocumented(path string) []string {
	if t == nil {
		return nil
	}
	missing := t.Elem.undocumented(path + "[]")
	for _, a := range t.Attributes {
		if a.Doc == "" {
			missing = append(missing, join(path, a.Name))
		}
		missing = append(missing, a.Type.undocumented(join(path, a.Name))...)
	}
	return missing
}
