// Package provider holds skerry's resources as the plugins serve them: for each
// its struct, from package resources with what is computed beside it, and its
// lifecycle. What is true for all resources (schema, plan, state, conversion)
// is in package definition, and what is true for one front-end in the package
// of that front-end.
package provider

import (
	"fmt"
	"log/slog"

	"github.com/skerry-io/skerry/provider/definition"
)

//go:generate go run ./definition/docgen -out docs_gen.go . ../resources
//go:generate go test . -run TestTheReferenceIsUpToDate -update

const about = "Nodes as libvirt VMs, a control plane on them, and self-healing services that run there through Podman."

// New returns the provider for the front-ends. version is the plugin's own.
func New(log *slog.Logger, version string) (*definition.Provider, error) {
	p, err := definition.NewProvider("skerry", about, docs, checkSettings, connect(log, version))
	if err != nil {
		return nil, err
	}
	for _, define := range []func(map[string]string) (*definition.Definition, error){
		node.Define, cluster.Define, network.Define, volume.Define, secret.Define, configFile.Define, image.Define, service.Define,
	} {
		d, err := define(docs)
		if err != nil {
			return nil, fmt.Errorf("start the provider: %w", err)
		}
		d.Example = examples[d.Name]
		p.Resources = append(p.Resources, d)
	}
	return p, nil
}
