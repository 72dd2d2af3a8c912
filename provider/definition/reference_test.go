package definition

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example has an attribute of every kind and treatment, for its page.
type example struct {
	Name     string            `json:"name" iac:"replace"`
	Size     resources.Bytes   `json:"size" iac:"default=1GiB"`
	Count    int               `json:"count_of" iac:"default=1000000"`
	Ratio    float64           `json:"ratio" iac:"default=0.5"`
	On       bool              `json:"on" iac:"default=false"`
	Tags     []string          `json:"tags" iac:"optional,set"`
	Sizes    []resources.Bytes `json:"sizes" iac:"optional"`
	Matrix   [][]int           `json:"matrix" iac:"optional"`
	Labels   map[string]string `json:"labels" iac:"optional"`
	Ports    []examplePort     `json:"ports" iac:"optional"`
	Password string            `json:"password" iac:"writeonly,version=password_version"`
	Version  int               `json:"password_version" iac:"optional"`
	Token    string            `json:"token" iac:"optional,sensitive"`
	Guess    string            `json:"guess" iac:"optional,computed"`
	Facts    []exampleFact     `json:"facts" iac:"computed"`
	State    string            `json:"state" iac:"volatile"`
}

type examplePort struct {
	Target   int    `json:"target"`
	Protocol string `json:"protocol" iac:"default=tcp,replace"`
	Host     *item  `json:"host" iac:"optional"`
}

type exampleFact struct {
	Address string `json:"address"`
}

type exampleSettings struct {
	URI string `json:"uri" iac:"optional"`
	SSH *struct {
		User  string `json:"user"`
		Agent bool   `json:"agent" iac:"default=true"`
	} `json:"ssh" iac:"optional"`
}

var exampleDocs = map[string]string{
	"example.Name":         "Name of the example.",
	"example.Size":         "How large it is.",
	"example.Ports":        "Ports that it opens.",
	"examplePort.Target":   "Port that it listens on.",
	"exampleFact.Address":  "Where it is.",
	"exampleSettings.URI":  "Where examples are.",
	"item.Name":            "Name of the host.",
	"example.Facts":        "What is known of it.",
	"examplePort.Protocol": "`tcp` or `udp`.",
}

func exampleResource() Resource[any, example] {
	return Resource[any, example]{
		Name: "example", Doc: "An example.", ImportID: "The ID is the name.",
		Timeouts: Timeouts{Create: 90 * time.Second, Read: time.Minute, Delete: 2 * time.Hour},
		Create:   func(context.Context, any, *example) error { return nil },
		Read:     func(context.Context, any, *example) (Reading, error) { return Reading{}, nil },
		Delete:   func(context.Context, any, *example) ([]string, error) { return nil, nil },
		Import:   func(context.Context, any, string) (*example, error) { return nil, nil },
	}
}

func TestReference(t *testing.T) {
	p, err := NewProvider("test", "Examples.", exampleDocs,
		func(*exampleSettings) resources.Problems { return nil },
		func(context.Context, *exampleSettings) (any, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	d, err := exampleResource().Define(exampleDocs)
	if err != nil {
		t.Fatal(err)
	}
	unimportable := exampleResource()
	unimportable.Name, unimportable.Import = "fixed", nil
	fixed, err := unimportable.Define(exampleDocs)
	if err != nil {
		t.Fatal(err)
	}
	p.Resources = append(p.Resources, d, fixed)
	for path, page := range map[string]string{
		"testdata/reference.md": d.Reference("test"), "testdata/provider.md": p.Reference(),
	} {
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), page); diff != "" {
			t.Errorf("%s (-want +got); -update writes it anew:\n%s", path, diff)
		}
	}
	if page := fixed.Reference("test"); !containsAll(page, "It can't be imported.") || containsAll(page, "terraform import") {
		t.Errorf("the page of what can't be imported is\n%s", page)
	}
}
