package pulumi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// ownSettings are those of every provider, which the engine reads by itself.
var ownSettings = []resource.PropertyKey{"version", "pluginDownloadURL"}

// settings reads the provider's configuration. From a stack's configuration, and
// from some SDKs, everything but texts comes as JSON in a text.
func (f *front) settings(properties *structpb.Struct) (*received, error) {
	m, err := plugin.UnmarshalProperties(properties, wire)
	if err != nil {
		return nil, err
	}
	plain := resource.PropertyMap{}
	for key, v := range m {
		if slices.Contains(ownSettings, key) {
			continue
		}
		if a := attribute(f.definition.Config, string(key)); a != nil && a.Type.Kind != definition.String {
			v = fromJSON(v)
		}
		plain[key] = v
	}
	return receiveMap(f.definition.Config, plain), nil
}

// fromJSON reads a text as JSON. One that is none stays as it is.
func fromJSON(v resource.PropertyValue) resource.PropertyValue {
	if v.IsSecret() {
		return resource.MakeSecret(fromJSON(v.SecretValue().Element))
	}
	if !v.IsString() {
		return v
	}
	var plain any
	if err := json.Unmarshal([]byte(v.StringValue()), &plain); err != nil {
		return v
	}
	return resource.NewPropertyValue(plain)
}

func (f *front) CheckConfig(_ context.Context, request *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	written, err := f.settings(request.GetNews())
	if err != nil {
		return nil, err
	}
	problems := f.definition.Check(written.tree)
	all, err := plugin.UnmarshalProperties(request.GetNews(), wire)
	if err != nil {
		return nil, err
	}
	inputs, err := send(concealed(f.definition.Config, resource.NewObjectProperty(all)).ObjectValue())
	return &pulumirpc.CheckResponse{Inputs: inputs, Failures: f.failures(written, problems)}, err
}

// DiffConfig tells of changes. None of them replaces the provider, and with it
// everything that it has made.
func (f *front) DiffConfig(_ context.Context, request *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	before, err := f.settings(request.GetOldInputs())
	if err != nil {
		return nil, err
	}
	written, err := f.settings(request.GetNews())
	if err != nil {
		return nil, err
	}
	return difference(definition.Plan{Changes: f.definition.Changes(before.tree, written.tree)}, nil), nil
}

func (f *front) Configure(ctx context.Context, request *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse, error) {
	written, err := f.settings(request.GetArgs())
	if err != nil {
		return nil, err
	}
	config, problems := f.definition.Configure(ctx, written.tree)
	if len(problems) > 0 {
		return nil, errors.New(f.text(problems.Err(), written.secrets))
	}
	f.config = config
	f.begin()
	return &pulumirpc.ConfigureResponse{AcceptSecrets: true, SupportsPreview: true}, nil
}

// failures are problems for the engine. They stand at no property: the engine
// would print its value, secret or not.
func (f *front) failures(written *received, problems resources.Problems) []*pulumirpc.CheckFailure {
	var all []*pulumirpc.CheckFailure
	for _, p := range written.strange {
		all = append(all, &pulumirpc.CheckFailure{Reason: p.String()})
	}
	for _, p := range problems {
		all = append(all, &pulumirpc.CheckFailure{Reason: written.secrets.redact(f.names.problem(p).String())})
	}
	return all
}

// text is an error in the words of Pulumi's users, without what is secret.
func (f *front) text(err error, hide secrets) string {
	if invalid := new(resources.InvalidError); errors.As(err, &invalid) {
		var translated resources.Problems
		for _, p := range invalid.Problems {
			translated = append(translated, f.names.problem(p))
		}
		return hide.redact(translated.Err().Error())
	}
	return hide.redact(f.names.translate(err.Error()))
}
