package definition

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

type item struct {
	Name string `json:"name"`
}

type recursive struct {
	Children []recursive `json:"children" iac:"optional"`
}

// Embedded and Text are embedded where they can't be.
type Embedded struct{}

// Text is no struct.
type Text string

// What can't be kept true is refused at start, and the error names the field.
func TestADefinitionIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		spec any
		want string
	}{
		{"objects in a set", struct {
			A []item `json:"a" iac:"set"`
		}{}, "a: a set holds scalars"},
		{"a secret set", struct {
			A []string `json:"a" iac:"set,sensitive"`
		}{}, "a: a set can't be sensitive"},
		{"a set that is no list", struct {
			A string `json:"a" iac:"set"`
		}{}, "can't be a set"},
		{"a computed value in a list", struct {
			A []struct {
				B string `json:"b" iac:"computed"`
			} `json:"a"`
		}{}, "a[].b: a computed value in a list"},
		{"a computed value deep in a list", struct {
			A map[string]struct {
				B struct {
					C string `json:"c" iac:"optional,computed"`
				} `json:"b"`
			} `json:"a"`
		}{}, "a[].b.c: a computed value in a list"},
		{"a write-only value without a version", struct {
			A string `json:"a" iac:"writeonly"`
		}{}, "a: a write-only value names the attribute that is its version"},
		{"a version that is not there", struct {
			A string `json:"a" iac:"writeonly,version=b"`
		}{}, `a: its version "b" is no attribute beside it`},
		{"a computed write-only value", struct {
			A string `json:"a" iac:"writeonly,computed,version=b"`
			B int    `json:"b" iac:"optional"`
		}{}, "a: a write-only value is never computed"},
		{"an optional volatile value", struct {
			A string `json:"a" iac:"optional,volatile"`
		}{}, "a: a volatile value is the plugin's alone"},
		{"an unknown word", struct {
			A string `json:"a" iac:"optinal"`
		}{}, `unknown word "optinal"`},
		{"a default that is no value", struct {
			A resources.Bytes `json:"a" iac:"default=much"`
		}{}, "default:"},
		{"a default of a list", struct {
			A []string `json:"a" iac:"default=x"`
		}{}, "has no default"},
		{"a bool's default", struct {
			A bool `json:"a" iac:"default=yes"`
		}{}, "neither true nor false"},
		{"two of a name", struct {
			item
			Other string `json:"name"`
		}{}, `the name "name" is taken`},
		{"a kind that no front-end has", struct {
			A chan int `json:"a"`
		}{}, "can't be an attribute"},
		{"lists of lists of objects", struct {
			A [][]item `json:"a"`
		}{}, "objects stand in a list or map directly"},
		{"a map with other keys", struct {
			A map[int]string `json:"a"`
		}{}, "the keys of a map are strings"},
		{"an object in itself", recursive{}, "an object can't hold itself"},
		{"an embedded pointer", struct {
			*Embedded
		}{}, "only structs are embedded"},
		{"an embedded text", struct {
			Text
		}{}, "only structs are embedded"},
		{"a field that can't be set", reflect.Zero(reflect.StructOf([]reflect.StructField{
			{Name: "a", PkgPath: "elsewhere", Type: reflect.TypeFor[string](), Tag: `json:"a"`},
		})).Interface(), "is exported"},
		{"a name with a dash", struct {
			A string `json:"a-b"`
		}{}, `the name "a-b" has other characters`},
		{"a name in capitals", struct {
			A string `json:"A"`
		}{}, `the name "A" has other characters`},
		{"a word twice", struct {
			A string `json:"a" iac:"optional,optional"`
		}{}, `the word "optional" twice`},
		{"no word after a comma", struct {
			A string `json:"a" iac:"optional,"`
		}{}, `unknown word ""`},
		{"a space before a word", struct {
			A string `json:"a" iac:"optional, replace"`
		}{}, `unknown word " replace"`},
		{"an optional with a value", struct {
			A string `json:"a" iac:"optional=yes"`
		}{}, `has "optional=yes"`},
		{"a replace with a value", struct {
			A string `json:"a" iac:"replace=b"`
		}{}, `has "replace=b"`},
		{"a sensitive with a value", struct {
			A string `json:"a" iac:"sensitive=b"`
		}{}, `has "sensitive=b"`},
		{"a default without a value", struct {
			A string `json:"a" iac:"default"`
		}{}, `has "default"`},
		{"a version without a value", struct {
			A string `json:"a" iac:"writeonly,version"`
		}{}, `has "version"`},
		{"a default of half a thing", struct {
			A int `json:"a" iac:"default=0.5"`
		}{}, "not a whole number"},
		{"a default that has no room", struct {
			A uint16 `json:"a" iac:"default=70000"`
		}{}, "out of range; give 0 to 65535"},
		{"a default of an object", struct {
			A item `json:"a" iac:"default=x"`
		}{}, "an object has no default"},
		{"a default in a computed-only value", struct {
			A string `json:"a" iac:"volatile,default=x"`
		}{}, "a: a volatile value is the plugin's alone"},
		{"a write-only default", struct {
			A string `json:"a" iac:"writeonly,default=x,version=b"`
			B int    `json:"b" iac:"optional"`
		}{}, "a: a write-only value is never computed"},
		{"a write-only value that replaces", struct {
			A string `json:"a" iac:"writeonly,replace,version=b"`
			B int    `json:"b" iac:"optional"`
		}{}, "a: a change of a write-only value can't be seen"},
		{"a write-only object", struct {
			A item `json:"a" iac:"writeonly,version=b"`
			B int  `json:"b" iac:"optional"`
		}{}, "a: an object can't be write-only"},
		{"a write-only set", struct {
			A []string `json:"a" iac:"writeonly,set,version=b"`
			B int      `json:"b" iac:"optional"`
		}{}, "a: a set can't be sensitive"},
		{"a value that is its own version", struct {
			A string `json:"a" iac:"writeonly,version=a"`
		}{}, `its version "a" is no attribute beside it`},
		{"a version that is an object", struct {
			A string `json:"a" iac:"writeonly,version=b"`
			B item   `json:"b" iac:"optional"`
		}{}, `its version "b" is no attribute beside it`},
		{"a version further out", struct {
			A struct {
				B string `json:"b" iac:"writeonly,version=c"`
			} `json:"a"`
			C int `json:"c" iac:"optional"`
		}{}, `a.b: its version "c" is no attribute beside it`},
		{"a version of what is kept", struct {
			A string `json:"a" iac:"optional,version=b"`
			B int    `json:"b" iac:"optional"`
		}{}, "a: only a write-only value has a version"},
		{"a volatile value that replaces", struct {
			A string `json:"a" iac:"volatile,replace"`
		}{}, "neither optional nor a reason to replace"},
		{"a volatile value within", struct {
			A struct {
				B string `json:"b" iac:"volatile"`
			} `json:"a" iac:"optional"`
		}{}, "a.b: only an attribute of the resource itself can be volatile"},
		{"a set of lists", struct {
			A [][]string `json:"a" iac:"set"`
		}{}, "a: a set holds scalars"},
		{"a map as a set", struct {
			A map[string]string `json:"a" iac:"set"`
		}{}, "a map of strings can't be a set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			typ, err := typeOf(reflect.TypeOf(c.spec), nil)
			if err == nil {
				err = typ.check("", false)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// An embedded struct is flattened, and a field without a name is none.
func TestAStructIsFlattened(t *testing.T) {
	typ, err := typeOf(reflect.TypeFor[struct {
		item
		Embedded
		Skipped string `json:"-"`
		Unnamed func()
		Size    resources.Bytes `json:"size,omitempty" iac:"default=1GiB,sensitive"`
	}](), map[string]string{"item.Name": "Its name."})
	if err != nil {
		t.Fatal(err)
	}
	if names := attributeNames(typ); !slices.Equal(names, []string{"name", "size"}) || typ.Attribute("name").Doc != "Its name." {
		t.Errorf("attributes %v, docs %q", names, typ.Attribute("name").Doc)
	}
	if a := typ.Attribute("size"); a.Required() || !a.Sensitive || a.Default != "1GiB" {
		t.Errorf("size is %+v", a)
	}
	if got := typ.Undocumented(); !slices.Equal(got, []string{"size"}) {
		t.Errorf("undocumented: %v", got)
	}
}

func attributeNames(t *Type) []string {
	var names []string
	for _, a := range t.Attributes {
		names = append(names, a.Name)
	}
	return names
}

func TestAResourceIsRefused(t *testing.T) {
	complete := Resource[any, item]{
		Name:   "thing",
		Create: func(context.Context, any, *item) error { return nil },
		Read:   func(context.Context, any, *item) (Reading, error) { return Reading{}, nil },
		Delete: func(context.Context, any, *item) ([]string, error) { return nil, nil },
	}
	if _, err := complete.Define(nil); err != nil {
		t.Errorf("a complete resource is refused: %v", err)
	}
	for name, remove := range map[string]func(*Resource[any, item]){
		"no create": func(r *Resource[any, item]) { r.Create = nil },
		"no read":   func(r *Resource[any, item]) { r.Read = nil },
		"no delete": func(r *Resource[any, item]) { r.Delete = nil },
	} {
		r := complete
		remove(&r)
		if _, err := r.Define(nil); err == nil || !strings.Contains(err.Error(), "define thing: Create, Read and Delete are needed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, err := range []error{
		defineError[struct {
			A string `json:"timeouts" iac:"optional"`
		}](),
		defineError[struct {
			A int `json:"count" iac:"optional"`
		}](),
		defineError[struct {
			A string `json:"provider"`
		}](),
	} {
		if err == nil || !strings.Contains(err.Error(), "keep this name for themselves") {
			t.Errorf("a reserved name: %v", err)
		}
	}
}

func defineError[S any]() error {
	_, err := Resource[any, S]{
		Name:   "thing",
		Create: func(context.Context, any, *S) error { return nil },
		Read:   func(context.Context, any, *S) (Reading, error) { return Reading{}, nil },
		Delete: func(context.Context, any, *S) ([]string, error) { return nil, nil },
	}.Define(nil)
	return err
}

func TestAProviderIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"computed": {providerError[struct {
			A string `json:"a" iac:"computed"`
		}](), "a: nothing in a provider's configuration is computed"},
		"volatile within": {providerError[struct {
			A struct {
				B string `json:"b" iac:"computed"`
			} `json:"a"`
		}](), "a.b: nothing in a provider's configuration is computed"},
		"replaced": {providerError[struct {
			A string `json:"a" iac:"replace"`
		}](), "a: nothing in a provider's configuration"},
		"write-only": {providerError[struct {
			A string `json:"a" iac:"writeonly,version=b"`
			B int    `json:"b" iac:"optional"`
		}](), "a: nothing in a provider's configuration"},
		"list of objects": {providerError[struct {
			A []item `json:"a"`
		}](), "a: a provider's configuration holds no lists or maps of objects"},
		"reserved": {providerError[struct {
			A string `json:"alias" iac:"optional"`
		}](), "alias: Terraform keeps this name"},
		"a tag": {providerError[struct {
			A string `json:"a" iac:"required"`
		}](), `define provider p: struct`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, c.err, c.want)
		}
	}
}

func providerError[W any]() error {
	_, err := NewProvider("p", "", nil,
		func(*W) resources.Problems { return nil },
		func(context.Context, *W) (any, error) { return nil, nil })
	return err
}

// An object whose attributes all have defaults, or may be null, is known at
// plan, and goes back to that when its user takes it away.
func TestAnObjectOfDefaultsIsKnownAtPlan(t *testing.T) {
	typ, err := typeOf(reflect.TypeFor[struct {
		R struct {
			CPU    resources.MilliCPU `json:"cpu" iac:"default=100m"`
			Memory resources.Bytes    `json:"memory" iac:"default=128MiB"`
			Share  string             `json:"share" iac:"optional"`
		} `json:"r" iac:"optional,computed"`
	}](), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"r": map[string]any{"cpu": "100m", "memory": "128MiB", "share": nil}}
	for name, prior := range map[string]any{
		"at a create": nil,
		"taken away":  map[string]any{"r": map[string]any{"cpu": "1", "memory": "1GiB", "share": "1"}},
		"as it was":   want,
	} {
		if diff := cmp.Diff(want, typ.plan(prior, map[string]any{"r": nil})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
