// Package pulumi serves the definitions of a provider over Pulumi's plugin
// protocol. It knows no resource: it converts wire values to trees, calls
// package definition, and converts the answers back.
//
// The engine keeps two maps of a resource. Its inputs are what the user wrote,
// write-only values included, which are secrets there. Its outputs are the state
// of package definition, and everything is compared with them. Both are named in
// camelCase; see names.
package pulumi

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/skerry-io/skerry/provider/definition"
)

//go:generate go test . -run TestTheSchemaIsUpToDate -update
//go:generate ../../scripts/sdk go ../../sdk/go

// New returns the provider for provider.Main. version is the plugin's, and log
// leads to the engine.
func New(p *definition.Provider, version string, log *Log) (pulumirpc.ResourceProviderServer, error) {
	f := &front{definition: p, version: version, log: log, names: namesOf(p)}
	if err := f.names.check(p); err != nil {
		return nil, err
	}
	f.begin()
	return f, nil
}

// front is one provider of an engine.
type front struct {
	pulumirpc.UnimplementedResourceProviderServer

	definition *definition.Provider
	version    string
	log        *Log
	names      *names
	// config is what Configure made, or nil where it is not known yet. The
	// engine configures a provider once, before it asks anything of it.
	config any

	guard sync.Mutex // of what follows
	// base ends when the user cancels.
	base context.Context //nolint:containedctx // it joins calls that begin at any time
	stop context.CancelCauseFunc
}

// begin is where the calls of an engine begin. One that attached before has
// cancelled its own.
func (f *front) begin() {
	f.guard.Lock()
	defer f.guard.Unlock()
	f.base, f.stop = context.WithCancelCause(context.Background())
}

func (f *front) Handshake(context.Context, *pulumirpc.ProviderHandshakeRequest) (*pulumirpc.ProviderHandshakeResponse, error) {
	return &pulumirpc.ProviderHandshakeResponse{AcceptSecrets: true}, nil
}

func (f *front) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: f.version}, nil
}

// Attach joins an engine to a provider that was started without one.
func (f *front) Attach(_ context.Context, request *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.log.attach(request.GetAddress())
}

// errCancelled is why the calls end that run while the user cancels.
var errCancelled = errors.New("it was cancelled")

// Cancel ends the calls that run, and those that still come.
func (f *front) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	f.guard.Lock()
	defer f.guard.Unlock()
	f.stop(errCancelled)
	return &emptypb.Empty{}, nil
}

// joined gives a context that ends with the call of a resource, or when the user
// cancels.
func (f *front) joined(ctx context.Context, at string) (context.Context, context.CancelFunc) {
	f.guard.Lock()
	base := f.base
	f.guard.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(base, func() { cancel(context.Cause(base)) })
	end := f.log.calls.begin(at)
	return ctx, func() { end(); detach(); cancel(nil) }
}

// find returns the definition of a resource by its URN.
func (f *front) find(urn string) (*definition.Definition, error) {
	parsed, err := resource.ParseURN(urn)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	for _, d := range f.definition.Resources {
		if f.names.token(d) == string(parsed.Type()) {
			return d, nil
		}
	}
	return nil, status.Errorf(codes.InvalidArgument, "there is no resource %s in %s", parsed.Type(), f.definition.Name)
}

func (f *front) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	text, err := Schema(f.definition, f.version)
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return &pulumirpc.GetSchemaResponse{Schema: string(text)}, nil
}
