package definition

import (
	"context"
	"fmt"
	"reflect"

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
	for _, a := range t.Attributes {
		if a.Computed {
			return nil, fmt.Errorf("define provider %s: %s: nothing in a provider's configuration is computed", name, a.Name)
		}
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
	spec := reflect.New(p.Config.goType)
	var unknown []string
	if err := p.Config.decode(written, spec.Elem(), "", &unknown); err != nil {
		return nil, problemOf(err)
	}
	if problems := hidden(p.check(spec.Interface()), unknown); len(problems) > 0 {
		return nil, problems
	}
	if len(unknown) > 0 {
		return nil, nil
	}
	config, err := p.configure(ctx, spec.Interface())
	if err != nil {
		return nil, problemOf(err)
	}
	return config, nil
}
