package definition

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

type item struct {
	Name string `json:"name"`
}

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

// An object whose attributes all have defaults is known at plan, and goes back
// to them when its user takes it away.
func TestAnObjectOfDefaultsIsKnownAtPlan(t *testing.T) {
	typ, err := typeOf(reflect.TypeFor[struct {
		R struct {
			CPU    resources.MilliCPU `json:"cpu" iac:"default=100m"`
			Memory resources.Bytes    `json:"memory" iac:"default=128MiB"`
		} `json:"r" iac:"optional,computed"`
	}](), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"r": map[string]any{"cpu": "100m", "memory": "128MiB"}}
	for name, prior := range map[string]any{
		"at a create": nil,
		"taken away":  map[string]any{"r": map[string]any{"cpu": "1", "memory": "1GiB"}},
		"as it was":   want,
	} {
		if diff := cmp.Diff(want, typ.plan(prior, map[string]any{"r": nil})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
