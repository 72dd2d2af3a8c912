package terraform

import (
	"context"
	"errors"
	"testing"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Anything holds an attribute of every kind, for the tests of the protocol.
type Anything struct {
	Name     string                     `json:"name" iac:"replace"`
	Size     resources.Bytes            `json:"size" iac:"default=1GiB"`
	Count    int                        `json:"count_of" iac:"optional"`
	Ratio    float64                    `json:"ratio" iac:"optional"`
	On       *bool                      `json:"on" iac:"optional"`
	Tags     []string                   `json:"tags" iac:"optional,set"`
	Order    []resources.Bytes          `json:"order" iac:"optional"`
	Labels   map[string]string          `json:"labels" iac:"optional"`
	Inner    *Inner                     `json:"inner" iac:"optional"`
	Inners   []Inner                    `json:"inners" iac:"optional"`
	ByName   map[string]Inner           `json:"by_name" iac:"optional"`
	Password string                     `json:"password" iac:"optional,writeonly,version=password_version"`
	Version  int                        `json:"password_version" iac:"optional"`
	Guess    string                     `json:"guess" iac:"optional,computed"`
	ID       string                     `json:"id" iac:"computed"`
	Changes  int                        `json:"changes" iac:"volatile"`
	Matrix   [][]int                    `json:"matrix" iac:"optional"`
	Deadline resources.Duration         `json:"deadline" iac:"default=30s"`
	Secret   string                     `json:"secret" iac:"optional,sensitive"`
	Share    resources.MilliCPU         `json:"share" iac:"optional"`
	Sizes    map[string]resources.Bytes `json:"sizes" iac:"optional"`
	Facts    Facts                      `json:"facts" iac:"computed"`
	Parts    []Facts                    `json:"parts" iac:"computed"`
	Choice   Choice                     `json:"choice" iac:"optional,computed"`
}

// Facts are an object that only the resource fills in.
type Facts struct {
	Address string            `json:"address"`
	Sizes   []resources.Bytes `json:"sizes"`
}

// Choice is an object with defaults that the user may leave out whole.
type Choice struct {
	Mode  string `json:"mode" iac:"default=fast"`
	Level int    `json:"level" iac:"default=3"`
}

// Inner is an object within.
type Inner struct {
	Path string          `json:"path"`
	Size resources.Bytes `json:"size" iac:"default=1MiB"`
	Deep *Deep           `json:"deep" iac:"optional,replace"`
}

// Deep is an object within an object.
type Deep struct {
	Text string `json:"text" iac:"optional"`
}

// settings are those of the test's provider.
type settings struct {
	Label string             `json:"label" iac:"optional"`
	Every resources.Duration `json:"every" iac:"default=5s"`
	Tags  []string           `json:"tags" iac:"optional,set"`
	Order []int              `json:"order" iac:"optional"`
	Map   map[string]bool    `json:"map" iac:"optional"`
	Ratio float64            `json:"ratio" iac:"optional"`
	Token string             `json:"token" iac:"optional,sensitive"`
	Link  *link              `json:"link" iac:"optional"`
}

type link struct {
	Host string `json:"host"`
	Port int    `json:"port" iac:"default=22"`
	Fast bool   `json:"fast" iac:"default=true"`
}

// world is what the test's resources live in.
type world struct {
	things    map[string]Anything
	passwords []string
	settings  settings
	fail      error
	silent    bool
}

func anything() definition.Resource[*world, Anything] {
	return definition.Resource[*world, Anything]{
		Name: "anything", Doc: "A resource for tests.",
		Check: func(a *Anything) resources.Problems {
			var p resources.Problems
			if len(a.Inners) > 0 && a.Inners[0].Path == "bad" {
				p.Addf("inners[0].path", "is bad; write good")
			}
			if a.Count < 0 {
				p.Addf("count_of", "is negative; give 0 or more")
			}
			return p
		},
		Create: func(_ context.Context, w *world, a *Anything) error {
			a.ID, a.Changes = "id-"+a.Name, 1
			a.Facts = Facts{Address: "10.0.0.1", Sizes: []resources.Bytes{a.Size}}
			a.Parts = []Facts{a.Facts}
			if a.Guess == "" {
				a.Guess = "guessed"
			}
			w.things[a.Name] = *a
			w.passwords = append(w.passwords, a.Password)
			if w.fail != nil {
				return &definition.Partial{Err: w.fail}
			}
			return nil
		},
		Read: func(_ context.Context, w *world, a *Anything) (definition.Reading, error) {
			if w.silent {
				return definition.Reading{Warnings: []string{"it does not answer"}}, nil
			}
			there, found := w.things[a.Name]
			if found {
				*a = there
			}
			return definition.Reading{Gone: !found}, nil
		},
		Update: func(_ context.Context, w *world, _, a *Anything) error {
			if w.fail != nil {
				return w.fail
			}
			a.Changes = w.things[a.Name].Changes + 1
			w.things[a.Name] = *a
			w.passwords = append(w.passwords, a.Password)
			return nil
		},
		Delete: func(_ context.Context, w *world, a *Anything) ([]string, error) {
			delete(w.things, a.Name)
			return nil, nil
		},
		Import: func(_ context.Context, w *world, id string) (*Anything, error) {
			a, found := w.things[id]
			if !found {
				return nil, errors.New("there is none of this name")
			}
			return &a, nil
		},
	}
}

// newProvider defines a provider whose one resource lives in w.
func newProvider(t testing.TB, w *world) *definition.Provider {
	t.Helper()
	p, err := definition.NewProvider("test", "For tests.", nil,
		func(s *settings) (p resources.Problems) {
			if s.Link != nil && s.Link.Port < 0 {
				p.Addf("link.port", "is negative; give a port")
			}
			return p
		},
		func(_ context.Context, s *settings) (*world, error) {
			w.settings = *s
			return w, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	d, err := anything().Define(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Resources = append(p.Resources, d)
	return p
}
