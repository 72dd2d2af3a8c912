package terraform

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// served is one definition, served as a resource.
type served struct {
	definition *definition.Definition
	config     any
}

var (
	_ resource.ResourceWithConfigure      = (*served)(nil)
	_ resource.ResourceWithValidateConfig = (*served)(nil)
	_ resource.ResourceWithModifyPlan     = (*served)(nil)
	_ resource.ResourceWithImportState    = (*served)(nil)
)

func (s *served) Metadata(_ context.Context, request resource.MetadataRequest, response *resource.MetadataResponse) {
	response.TypeName = request.ProviderTypeName + "_" + s.definition.Name
}

func (s *served) Schema(_ context.Context, _ resource.SchemaRequest, response *resource.SchemaResponse) {
	response.Schema = resourceSchema(s.definition)
}

func (s *served) Configure(_ context.Context, request resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if c, ok := request.ProviderData.(configured); ok {
		s.config = c.config
	}
}

func (s *served) ValidateConfig(_ context.Context, request resource.ValidateConfigRequest, response *resource.ValidateConfigResponse) {
	written, ok := trees(&response.Diagnostics, request.Config.Raw)
	if !ok {
		return
	}
	report(&response.Diagnostics, s.definition.Type, "Invalid "+s.definition.Name, s.definition.Validate(written[0]))
}

func (s *served) ModifyPlan(ctx context.Context, request resource.ModifyPlanRequest, response *resource.ModifyPlanResponse) {
	if request.Plan.Raw.IsNull() {
		return // a destroy changes nothing that was planned
	}
	t, ok := trees(&response.Diagnostics, request.State.Raw, request.Config.Raw)
	if !ok {
		return
	}
	plan, problems := s.definition.Plan(ctx, s.config, t[0], t[1])
	report(&response.Diagnostics, s.definition.Type, "Invalid "+s.definition.Name, problems)
	if response.Diagnostics.HasError() {
		return
	}
	response.Plan.Raw = valueOf(request.Plan.Raw.Type(), plan.Planned)
	for _, name := range plan.Replace {
		response.RequiresReplace = append(response.RequiresReplace, path.Root(name))
	}
}

func (s *served) Create(ctx context.Context, request resource.CreateRequest, response *resource.CreateResponse) {
	t, ok := s.ready(&response.Diagnostics, request.Plan.Raw, request.Config.Raw)
	if !ok {
		return
	}
	state, err := s.definition.Create(ctx, s.config, t[0], t[1])
	if state != nil {
		response.State.Raw = valueOf(request.Plan.Raw.Type(), state)
	}
	s.fail(&response.Diagnostics, "create", err)
}

func (s *served) Read(ctx context.Context, request resource.ReadRequest, response *resource.ReadResponse) {
	if s.config == nil { // the state stays as it is, so that the apply can get on
		s.warn(&response.Diagnostics, []string{"The provider block depends on something that is yet to be made, so this is the state of the last apply."})
		return
	}
	t, ok := s.ready(&response.Diagnostics, request.State.Raw)
	if !ok {
		return
	}
	state, warnings, err := s.definition.Read(ctx, s.config, t[0])
	s.warn(&response.Diagnostics, warnings)
	if err != nil {
		s.fail(&response.Diagnostics, "read", err)
		return
	}
	response.State.Raw = valueOf(request.State.Raw.Type(), state)
}

func (s *served) Update(ctx context.Context, request resource.UpdateRequest, response *resource.UpdateResponse) {
	t, ok := s.ready(&response.Diagnostics, request.State.Raw, request.Plan.Raw, request.Config.Raw)
	if !ok {
		return
	}
	state, err := s.definition.Update(ctx, s.config, t[0], t[1], t[2])
	if err != nil {
		s.fail(&response.Diagnostics, "update", err)
		return
	}
	response.State.Raw = valueOf(request.Plan.Raw.Type(), state)
}

func (s *served) Delete(ctx context.Context, request resource.DeleteRequest, response *resource.DeleteResponse) {
	t, ok := s.ready(&response.Diagnostics, request.State.Raw)
	if !ok {
		return
	}
	warnings, err := s.definition.Delete(ctx, s.config, t[0])
	s.warn(&response.Diagnostics, warnings)
	s.fail(&response.Diagnostics, "delete", err)
}

func (s *served) ImportState(ctx context.Context, request resource.ImportStateRequest, response *resource.ImportStateResponse) {
	if _, ok := s.ready(&response.Diagnostics); !ok {
		return
	}
	state, err := s.definition.Import(ctx, s.config, request.ID)
	if err != nil {
		s.fail(&response.Diagnostics, "import", err)
		return
	}
	response.State.Raw = valueOf(response.State.Schema.Type().TerraformType(ctx), state)
}

// ready converts the values of a call that needs the provider's configuration.
func (s *served) ready(diagnostics *diag.Diagnostics, values ...tftypes.Value) ([]any, bool) {
	if s.config == nil {
		diagnostics.AddError("The provider's configuration is not known", fmt.Sprintf(
			"The provider block depends on something that this apply has yet to make. Put the value on the %s itself, where it is resolved in time.", s.definition.Name))
		return nil, false
	}
	return trees(diagnostics, values...)
}

func trees(diagnostics *diag.Diagnostics, values ...tftypes.Value) ([]any, bool) {
	all := make([]any, len(values))
	for i, v := range values {
		tree, err := treeOf(v)
		if err != nil {
			diagnostics.AddError("Unreadable value", err.Error())
			return nil, false
		}
		all[i] = tree
	}
	return all, true
}

func (s *served) warn(diagnostics *diag.Diagnostics, warnings []string) {
	for _, warning := range warnings {
		diagnostics.AddWarning("About the "+s.definition.Name, warning)
	}
}

func (s *served) fail(diagnostics *diag.Diagnostics, call string, err error) {
	if err == nil {
		return
	}
	summary := fmt.Sprintf("Can't %s the %s", call, s.definition.Name)
	if invalid := new(resources.InvalidError); errors.As(err, &invalid) {
		report(diagnostics, s.definition.Type, summary, invalid.Problems)
		return
	}
	diagnostics.AddError(summary, err.Error())
}
