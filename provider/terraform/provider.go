// Package terraform serves the definitions of a provider over Terraform's
// plugin protocol. It knows no resource: it converts wire values to trees,
// calls package definition, and converts the answers back.
package terraform

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// New returns the provider for providerserver.Serve. version is the plugin's.
func New(p *definition.Provider, version string) provider.Provider {
	return &front{definition: p, version: version}
}

type front struct {
	definition *definition.Provider
	version    string
}

func (f *front) Metadata(_ context.Context, _ provider.MetadataRequest, response *provider.MetadataResponse) {
	response.TypeName, response.Version = f.definition.Name, f.version
}

func (f *front) Schema(_ context.Context, _ provider.SchemaRequest, response *provider.SchemaResponse) {
	response.Schema = providerSchema(f.definition)
}

// configured wraps what Configure returned: the framework hands it to each
// resource, and a nil in it means that the configuration is not known yet.
type configured struct{ config any }

func (f *front) Configure(ctx context.Context, request provider.ConfigureRequest, response *provider.ConfigureResponse) {
	written, err := treeOf(request.Config.Raw)
	if err != nil {
		response.Diagnostics.AddError("Unreadable provider configuration", err.Error())
		return
	}
	config, problems := f.definition.Configure(ctx, written)
	report(&response.Diagnostics, f.definition.Config, "Invalid provider configuration", problems)
	response.ResourceData = configured{config}
}

func (f *front) DataSources(context.Context) []func() datasource.DataSource { return nil }

func (f *front) Resources(context.Context) []func() resource.Resource {
	all := make([]func() resource.Resource, len(f.definition.Resources))
	for i, d := range f.definition.Resources {
		all[i] = func() resource.Resource { return &served{definition: d} }
	}
	return all
}

// report adds a diagnostic for each problem. It stands at the root attribute,
// because a path into a list loses the line in the source, and carries the
// whole path in its text.
func report(diagnostics *diag.Diagnostics, t *definition.Type, summary string, problems resources.Problems) {
	for _, problem := range problems {
		root := problem.Path
		if end := strings.IndexAny(root, ".["); end >= 0 {
			root = root[:end]
		}
		if t.Attribute(root) == nil {
			diagnostics.AddError(summary, problem.String())
			continue
		}
		diagnostics.AddAttributeError(path.Root(root), fmt.Sprintf("%s: %s", summary, problem.Path), problem.String())
	}
}

var _ provider.Provider = (*front)(nil)
