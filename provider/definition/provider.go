package definition

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Provider is a set of resources with one configuration, for any front-end.
type Provider struct {
	// Name is the prefix of the resources' names: skerry, for skerry_node.
	Name      string
	Doc       string
	Config    *Type
	Resources []*Definition

	check     func(config any) resources.Problems
	configure func(ctx context.Context, config any) (any, error)
}

// NewProvider defines a provider whose configuration is the struct W.
// configure turns what the user wrote into what the resources are given; it
// dials nothing, because a provider is configured before there is anything to
// reach.
func NewProvider[W, C any](name, doc string, docs map[string]string, check func(*W) resources.Problems, configure func(context.Context, *W) (C, error)) (*Provider, error) {
	t, err := typeOf(reflect.TypeFor[W](), docs)
	if err != nil {
		return nil, fmt.Errorf("define provider %s: %w", name, err)
	}
	if err := t.check("", false); err != nil {
		return nil, fmt.Errorf("define provider %s: %w", name, err)
	}
	if err := t.checkConfig(""); err != nil {
		return nil, fmt.Errorf("define provider %s: %w", name, err)
	}
	return &Provider{
		Name: name, Doc: doc, Config: t,
		check:     func(config any) resources.Problems { return check(config.(*W)) },
		configure: func(ctx context.Context, config any) (any, error) { return configure(ctx, config.(*W)) },
	}, nil
}

// Configure returns what the calls of the resources are given as config, or nil
// while a part of what the user wrote is unknown.
func (p *Provider) Configure(ctx context.Context, written any) (any, resources.Problems) {
	spec, unknown, problems := p.decode(written)
	if len(problems) > 0 {
		return nil, problems
	}
	if unknown {
		return nil, nil
	}
	config, err := p.configure(ctx, spec)
	if invalid := new(resources.InvalidError); errors.As(err, &invalid) {
		return nil, invalid.Problems
	}
	if err != nil {
		return nil, resources.Problems{{Reason: err.Error()}}
	}
	return config, nil
}

// Check returns every problem with what the user wrote.
func (p *Provider) Check(written any) resources.Problems {
	_, _, problems := p.decode(written)
	return problems
}

func (p *Provider) decode(written any) (spec any, unknown bool, problems resources.Problems) {
	v := reflect.New(p.Config.goType)
	d := p.Config.decode(p.Config.plan(nil, written), v.Elem(), "")
	problems = append(p.Config.missing(written, ""), d.problems...)
	problems = append(problems, hidden(p.check(v.Interface()), d.doubtful())...)
	return v.Interface(), len(d.unknown) > 0, problems
}

// Changes compares what the user wrote before with what is written now.
func (p *Provider) Changes(before, written any) []Change {
	was, _ := p.Config.plan(nil, before).(map[string]any)
	will, _ := p.Config.plan(nil, written).(map[string]any)
	return p.Config.changes(was, will)
}

// checkConfig refuses what makes no sense in a provider's configuration, which
// has neither plan nor state.
func (t *Type) checkConfig(path string) error {
	for _, a := range t.Attributes {
		at := join(path, a.Name)
		switch {
		case path == "" && slices.Contains([]string{"alias", "version"}, a.Name):
			return fmt.Errorf("%s: Terraform keeps this name for itself", at)
		case a.Computed && a.Default == nil, a.Replace, a.WriteOnly:
			return fmt.Errorf("%s: nothing in a provider's configuration is computed, replaced or write-only", at)
		case a.Type.Elem != nil && holdsObject(a.Type.Elem):
			return fmt.Errorf("%s: a provider's configuration holds no lists or maps of objects", at)
		}
		if err := a.Type.checkConfig(at); err != nil {
			return err
		}
	}
	return nil
}
