package definition

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

type checked struct {
	Size    resources.Bytes         `json:"size"`
	Time    resources.Duration      `json:"time" iac:"default=10s"`
	Count   int                     `json:"count_of" iac:"optional"`
	Port    uint16                  `json:"port" iac:"optional"`
	Secret  resources.Bytes         `json:"secret" iac:"optional,sensitive"`
	Hidden  []resources.Bytes       `json:"hidden" iac:"optional,writeonly,version=count_of"`
	Items   []checkedItem           `json:"items" iac:"optional"`
	ByName  map[string]*checkedItem `json:"by_name" iac:"optional"`
	Mapping map[string]string       `json:"mapping" iac:"optional"`
}

type checkedItem struct {
	Name string             `json:"name"`
	Time resources.Duration `json:"time" iac:"default=1s"`
}

func checkedResource() Resource[any, checked] {
	return Resource[any, checked]{Check: func(c *checked) (p resources.Problems) {
		if c.Size == 0 {
			p.Addf("size", "is zero")
		}
		if c.Count == 0 {
			p.Addf("count_of", "is zero")
		}
		for i, item := range c.Items {
			if item.Name == "" {
				p.Addf(fmt.Sprintf("items[%d].name", i), "is empty")
			}
		}
		return p
	}}
}

// Every problem is reported at once, and none that only follows from another
// one or from what is unknown.
func TestValidateFindsEveryProblem(t *testing.T) {
	d := defineWith(t, checkedResource())
	for name, c := range map[string]struct {
		written object
		want    []string
	}{
		"none": {object{"size": "1GiB", "count_of": number(1)}, nil},
		"all": {
			object{
				"size": "much", "time": "soon", "count_of": number(0), "port": number(65536), "mapping": []any{},
				"items":    []any{object{"name": "", "time": "later"}, object{}, nil},
				"by_name":  object{"b": object{}, "a": object{"name": number(1)}},
				"timeouts": object{"create": "tomorrow", "read": "-1s"},
			},
			[]string{
				`items[1].name: is missing; it is required`,
				`items[2]: is null; write an object, or leave it out`,
				`by_name["b"].name: is missing; it is required`,
				`size: "much" is not an amount of bytes, like 512MiB or 20GB: the number before the unit can't be read`,
				`time: "soon" is not a length of time, like 30s or 1h30m`,
				`port: is out of range; give 0 to 65535`,
				`items[0].time: "later" is not a length of time, like 30s or 1h30m`,
				`by_name["a"].name: is not a string`,
				`mapping: is not a map of strings`,
				`count_of: is zero`,
				`items[0].name: is empty`,
				`timeouts.create: "tomorrow" is not a length of time, like 30s or 1h30m`,
				`timeouts.read: "-1s" is negative; give a length of time, like 30s or 1h30m`,
			},
		},
		"what is missing": {object{"count_of": number(1)}, []string{"size: is missing; it is required"}},
		"half a thing":    {object{"size": "1B", "count_of": number(0).SetFloat64(0.5)}, []string{"count_of: is not a whole number of 64 bits"}},
		"a secret": {
			object{"size": "1B", "count_of": number(1), "secret": "tell-nobody", "hidden": []any{"1B", "tell-nobody"}},
			[]string{
				"secret: is not a value that fits, and is too sensitive to say more",
				"hidden[1]: is not a value that fits, and is too sensitive to say more",
			},
		},
		"what is unknown": {object{"size": Unknown{}, "count_of": Unknown{}, "items": []any{object{"name": Unknown{}}, Unknown{}}, "timeouts": Unknown{}}, nil},
		"a list unknown":  {object{"size": "1B", "count_of": number(1), "items": Unknown{}, "by_name": object{"a": Unknown{}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range d.Validate(c.written) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if problems := d.Validate(Unknown{}); len(problems) > 0 {
		t.Errorf("a resource that is unknown has problems: %v", problems)
	}
}

// What was missing inside something unknown is found once that is known.
func TestPlanFindsWhatIsMissing(t *testing.T) {
	d := defineWith(t, checkedResource())
	_, problems := d.Plan(t.Context(), nil, nil, object{"size": "1B", "items": []any{object{"name": nil}}})
	if diff := cmp.Diff(resources.Problems{{Path: "items[0].name", Reason: "is missing; it is required"}}, problems); diff != "" {
		t.Error(diff)
	}
}

// A front-end without a schema of its own may hand over any shape.
func TestAValueOfAnotherShapeIsAProblem(t *testing.T) {
	d := defineWith(t, checkedResource())
	prior := d.Type.plan(nil, object{
		"size": "1B", "count_of": number(1), "items": []any{object{"name": "a"}}, "by_name": object{"k": object{"name": "a"}}, "mapping": object{"a": "b"},
	})
	for _, name := range []string{"size", "time", "count_of", "items", "by_name", "mapping"} {
		for _, value := range []any{true, object{"a": number(1)}, []any{[]any{}}, []any{"x"}, object{"k": []any{}}} {
			written := object{"size": "1B", "count_of": number(1)}
			written[name] = value
			if problems := d.Validate(written); len(problems) == 0 {
				t.Errorf("%s = %v is valid", name, value)
			}
			if _, problems := d.Plan(t.Context(), nil, prior, written); len(problems) == 0 {
				t.Errorf("%s = %v is planned", name, value)
			}
		}
	}
}

// An error names the deadline that passed, and who set it.
func TestDeadlines(t *testing.T) {
	stuck := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("wait for it: %w", ctx.Err())
	}
	r := Resource[any, item]{
		Timeouts: Timeouts{Create: time.Minute},
		Create:   func(ctx context.Context, _ any, _ *item) error { return &Partial{Err: stuck(ctx)} },
		Read:     func(ctx context.Context, _ any, _ *item) (Reading, error) { return Reading{}, stuck(ctx) },
		Update:   func(ctx context.Context, _ any, _, _ *item) error { return stuck(ctx) },
		Delete:   func(ctx context.Context, _ any, _ *item) ([]string, error) { return []string{"left"}, stuck(ctx) },
		Import:   func(ctx context.Context, _ any, _ string) (*item, error) { return nil, stuck(ctx) },
	}
	d := defineWith(t, r)
	tree := object{"name": "a", "timeouts": object{"update": "5s"}}
	for name, c := range map[string]struct {
		call func(context.Context) error
		want time.Duration
	}{
		"create": {func(ctx context.Context) error {
			state, err := d.Create(ctx, struct{}{}, tree, tree)
			if partial := new(Partial); state == nil || !errors.As(err, &partial) {
				t.Errorf("a create in part gave %v, %v", state, err)
			}
			return err
		}, time.Minute},
		"read":   {func(ctx context.Context) error { _, _, err := d.Read(ctx, struct{}{}, tree); return err }, DefaultTimeout},
		"update": {func(ctx context.Context) error { _, err := d.Update(ctx, struct{}{}, tree, tree, tree); return err }, 5 * time.Second},
		"delete": {func(ctx context.Context) error { _, err := d.Delete(ctx, struct{}{}, tree); return err }, DefaultTimeout},
		"import": {func(ctx context.Context) error { _, err := d.Import(ctx, struct{}{}, "a"); return err }, DefaultTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				err := c.call(t.Context())
				if took := time.Since(begin); took != c.want {
					t.Errorf("it took %s; want %s", took, c.want)
				}
				call := name
				if call == "import" {
					call = "read"
				}
				want := fmt.Sprintf("%s of thing took longer than %s (timeouts.%s): wait for it: context deadline exceeded", call, c.want, call)
				if err == nil || err.Error() != want {
					t.Errorf("error %q; want %q", err, want)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Update(ctx, struct{}{}, tree, tree, tree); err == nil || err.Error() != "wait for it: context canceled" {
		t.Errorf("a cancelled update gave %v", err)
	}
}

func TestConfigure(t *testing.T) {
	type ssh struct {
		User  string `json:"user"`
		Agent bool   `json:"agent" iac:"default=true"`
	}
	type settings struct {
		SSH   *ssh               `json:"ssh" iac:"optional"`
		Every resources.Duration `json:"every" iac:"default=5s"`
		Mode  string             `json:"mode" iac:"optional"`
	}
	var refuse error
	p, err := NewProvider("p", "", nil,
		func(s *settings) (problems resources.Problems) {
			if s.Mode == "bad" {
				problems.Addf("mode", "is bad")
			}
			return problems
		},
		func(_ context.Context, s *settings) (*settings, error) { return s, refuse })
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		written  object
		want     any
		problems []string
	}{
		"defaults":        {object{}, &settings{Every: resources.Duration(5 * time.Second)}, nil},
		"defaults within": {object{"ssh": object{"user": "u"}}, &settings{SSH: &ssh{User: "u", Agent: true}, Every: resources.Duration(5 * time.Second)}, nil},
		"all written":     {object{"ssh": object{"user": "u", "agent": false}, "every": "1m"}, &settings{SSH: &ssh{User: "u"}, Every: resources.Duration(time.Minute)}, nil},
		"unknown":         {object{"ssh": object{"user": Unknown{}}}, nil, nil},
		"every problem":   {object{"ssh": object{}, "every": "now", "mode": "bad"}, nil, []string{"ssh.user: is missing; it is required", `every: "now" is not a length of time, like 30s or 1h30m`, "mode: is bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			config, problems := p.Configure(t.Context(), c.written)
			var got []string
			for _, problem := range problems {
				got = append(got, problem.String())
			}
			if diff := cmp.Diff(c.problems, got); diff != "" {
				t.Errorf("problems (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(c.want, config); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	refuse = resources.Invalid("mode", "is not for here")
	if _, problems := p.Configure(t.Context(), object{}); len(problems) != 1 || problems[0].Path != "mode" {
		t.Errorf("an error of the attribute became %v", problems)
	}
	refuse = errors.New("no")
	if _, problems := p.Configure(t.Context(), object{}); len(problems) != 1 || problems[0].Path != "" {
		t.Errorf("an error became %v", problems)
	}
}
