// Package definitiontest has a provider for tests of the front-ends: its one
// resource holds an attribute of every kind, and lives in a World in memory.
package definitiontest

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

// Settings are those of the test's provider.
type Settings struct {
	Label string             `json:"label" iac:"optional"`
	Every resources.Duration `json:"every" iac:"default=5s"`
	Tags  []string           `json:"tags" iac:"optional,set"`
	Order []int              `json:"order" iac:"optional"`
	Map   map[string]bool    `json:"map" iac:"optional"`
	Ratio float64            `json:"ratio" iac:"optional"`
	Token string             `json:"token" iac:"optional,sensitive"`
	Link  *Link              `json:"link" iac:"optional"`
}

// Link is an object in the settings.
type Link struct {
	Host string `json:"host"`
	Port int    `json:"port" iac:"default=22"`
	Fast bool   `json:"fast" iac:"default=true"`
}

// World is what the test's resources live in.
type World struct {
	// Things are the resources by name, and Passwords what was written to them.
	Things    map[string]Anything
	Passwords []string
	Settings  Settings
	// Fail is the error of every create, which leaves its resource, and update.
	Fail error
	// Silent keeps reads from finding out.
	Silent bool
	// Before is called before anything is made or changed, where it is set.
	Before func(context.Context) error
}

// NewWorld returns an empty one.
func NewWorld() *World { return &World{Things: map[string]Anything{}} }

func anything() definition.Resource[*World, Anything] {
	return definition.Resource[*World, Anything]{
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
		Create: create,
		Read: func(_ context.Context, w *World, a *Anything) (definition.Reading, error) {
			if w.Silent {
				return definition.Reading{Warnings: []string{"it does not answer"}}, nil
			}
			there, found := w.Things[a.Name]
			if found {
				*a = there
			}
			return definition.Reading{Gone: !found}, nil
		},
		Update: update,
		Delete: func(_ context.Context, w *World, a *Anything) ([]string, error) {
			delete(w.Things, a.Name)
			return nil, nil
		},
		Import: func(_ context.Context, w *World, id string) (*Anything, error) {
			a, found := w.Things[id]
			if !found {
				return nil, errors.New("there is none of this name")
			}
			return &a, nil
		},
	}
}

// Provider defines a provider whose one resource lives in w.
func Provider(t testing.TB, w *World) *definition.Provider {
	t.Helper()
	p, err := definition.NewProvider("test", "For tests.", nil,
		func(s *Settings) (p resources.Problems) {
			if s.Link != nil && s.Link.Port < 0 {
				p.Addf("link.port", "is negative; give a port")
			}
			return p
		},
		func(_ context.Context, s *Settings) (*World, error) {
			w.Settings = *s
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

func (w *World) before(ctx context.Context) error {
	if w.Before == nil {
		return nil
	}
	return w.Before(ctx)
}

func create(ctx context.Context, w *World, a *Anything) error {
	if err := w.before(ctx); err != nil {
		return err
	}
	a.ID, a.Changes = "id-"+a.Name, 1
	a.Facts = Facts{Address: "10.0.0.1", Sizes: []resources.Bytes{a.Size}}
	a.Parts = []Facts{a.Facts}
	if a.Guess == "" {
		a.Guess = "guessed"
	}
	w.Things[a.Name] = *a
	w.Passwords = append(w.Passwords, a.Password)
	if w.Fail != nil {
		return &definition.Partial{Err: w.Fail}
	}
	return nil
}

func update(ctx context.Context, w *World, _, a *Anything) error {
	if w.Fail != nil {
		return w.Fail
	}
	if err := w.before(ctx); err != nil {
		return err
	}
	a.Changes = w.Things[a.Name].Changes + 1
	w.Things[a.Name] = *a
	w.Passwords = append(w.Passwords, a.Password)
	return nil
}
