package pulumi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	sdk "github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"

	"github.com/skerry-io/skerry/provider/definition/definitiontest"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/pulumitest"
)

// The tests here run the real engine against the provider in this process, so
// that the world it changes outlives each command.

// engine is a stack whose program has one resource, `it`.
type engine struct {
	*testing.T
	world   *definitiontest.World
	dir     string
	stack   auto.Stack
	written sdk.Map
	options []sdk.ResourceOption
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the engine")
	}
	e := &engine{T: t, world: definitiontest.NewWorld(), dir: t.TempDir()}
	stack, err := pulumitest.Stack(t.Context(), pulumitest.Options{
		Root: "../..", Dir: e.dir, Project: "project", Program: e.program,
		Env: map[string]string{"PULUMI_DEBUG_PROVIDERS": fmt.Sprintf("test:%d", e.serve())},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.stack = stack
	return e
}

// serve serves the provider until the test ends, and returns its port. Each
// command of the engine attaches to it, and cancels it at its end.
func (e *engine) serve() int {
	front, err := New(definitiontest.Provider(e, e.world), "1.2.3", NewLog(nil))
	if err != nil {
		e.Fatal(err)
	}
	cancel := make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: cancel, Init: func(s *grpc.Server) error {
		pulumirpc.RegisterResourceProviderServer(s, front)
		return nil
	}})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		close(cancel)
		if err := <-handle.Done; err != nil {
			e.Error(err)
		}
	})
	return handle.Port
}

func (e *engine) program(ctx *sdk.Context) error {
	if e.written == nil {
		return nil
	}
	var it struct{ sdk.CustomResourceState }
	return ctx.RegisterResource("test:index:Anything", "it", e.written, &it, e.options...)
}

func (e *engine) up(options ...optup.Option) (string, map[string]int) {
	e.Helper()
	r, err := e.stack.Up(e.Context(), options...)
	if err != nil {
		e.Fatalf("up: %v", err)
	}
	return r.StdOut, *r.Summary.ResourceChanges
}

func (e *engine) fails() string {
	e.Helper()
	_, err := e.stack.Up(e.Context())
	if err == nil {
		e.Fatal("the up succeeded, and should not")
	}
	return err.Error()
}

// state is what the engine keeps, as it lies on the disk.
func (e *engine) state() string {
	e.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "state/.pulumi/stacks/project/dev.json"))
	if err != nil {
		e.Fatal(err)
	}
	return string(text)
}

func (e *engine) contains(text string, parts ...string) {
	e.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			e.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func (e *engine) lacks(text string, parts ...string) {
	e.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			e.Errorf("%q is in:\n%s", part, text)
		}
	}
}

func text(s string) sdk.String { return sdk.String(s) }

func TestEngineLifecycle(t *testing.T) {
	e := newEngine(t)
	e.written = sdk.Map{
		"name": text("n"), "size": text("1024MiB"), "tags": sdk.StringArray{text("b"), text("a")}, "secret": text("whispered"),
		"password": text("hushed"), "passwordVersion": sdk.Int(1), "inners": sdk.MapArray{sdk.Map{"path": text("p")}},
		"labels": sdk.StringMap{"token": sdk.ToSecret(text("t0ken")).(sdk.StringOutput)},
	}
	preview, err := e.stack.Preview(t.Context(), optpreview.Diff())
	if err != nil || preview.ChangeSummary[apitype.OpCreate] != 2 {
		t.Fatalf("%v: %v", err, preview)
	}
	e.contains(preview.StdOut, "[secret]")
	e.lacks(preview.StdOut, "whispered", "hushed", "t0ken")
	out, _ := e.up()
	e.lacks(out+e.state(), "whispered", "hushed", "t0ken")
	e.contains(e.state(), `"id":"id-n"`, `"size":"1024MiB"`)
	if diff := cmp.Diff([]string{"hushed"}, e.world.Passwords); diff != "" {
		t.Error(diff)
	}

	e.written["size"], e.written["tags"] = text("1GiB"), sdk.StringArray{text("a"), text("b")}
	if _, changes := e.up(optup.ExpectNoChanges()); changes["same"] != 2 {
		t.Errorf("another spelling changes %v", changes)
	}
	e.written["size"], e.written["inners"] = text("2GiB"), sdk.MapArray{sdk.Map{"path": text("q")}}
	preview, err = e.stack.Preview(t.Context(), optpreview.Diff())
	if err != nil {
		t.Fatal(err)
	}
	e.contains(preview.StdOut, `~ size  : "1024MiB" => "2GiB"`, `~ path: "p" => "q"`)
	e.up()
	e.written["password"] = text("changed")
	e.up()
	if got := e.world.Things["n"]; got.Size != 2*resources.GiB || got.Changes != 3 || e.world.Passwords[2] != "changed" {
		t.Errorf("it is %+v", got)
	}

	thing := e.world.Things["n"]
	thing.Count = 7
	e.world.Things["n"] = thing
	if r, err := e.stack.Refresh(t.Context()); err != nil || (*r.Summary.ResourceChanges)["update"] != 1 {
		t.Errorf("the refresh finds %v (%v)", r.Summary.ResourceChanges, err)
	}
	if _, changes := e.up(); changes["update"] != 1 || e.world.Things["n"].Count != 0 {
		t.Errorf("the drift is not undone: %v, %+v", changes, e.world.Things["n"])
	}

	e.written["name"] = text("m")
	e.up()
	if names := slices.Collect(maps.Keys(e.world.Things)); !slices.Equal(names, []string{"m"}) {
		t.Errorf("after the replacement there are %v", names)
	}
	if _, err := e.stack.Destroy(t.Context()); err != nil || len(e.world.Things) > 0 {
		t.Errorf("%v: left are %v", err, e.world.Things)
	}
}

func TestEngineImport(t *testing.T) {
	e := newEngine(t)
	e.written = sdk.Map{"name": text("n"), "size": text("1GiB"), "inner": sdk.Map{"path": text("p")}}
	e.up()
	kept := maps.Clone(e.world.Things)
	written := e.written
	e.written = nil
	e.up()
	e.world.Things, e.written = kept, written
	e.options = []sdk.ResourceOption{sdk.Import(sdk.ID("n"))}
	if _, changes := e.up(); changes["import"] != 1 {
		t.Errorf("the import does %v", changes)
	}
	e.up(optup.ExpectNoChanges())
	e.options = nil
	e.up(optup.ExpectNoChanges())
}

func TestEngineFailures(t *testing.T) {
	e := newEngine(t)
	e.written = sdk.Map{"name": text("n"), "countOf": sdk.Int(-1), "color": text("red"), "secret": sdk.Int(5)}
	said := e.fails()
	e.contains(said, "countOf: is negative; give 0 or more", "color: is not known here", "secret: is not a value that fits")

	e.written = sdk.Map{"name": text("n"), "secret": text("whispered")}
	e.world.Fail = errors.New("whispered: no room; see count_of")
	said = e.fails()
	e.contains(said, "can't create the anything: [secret]: no room; see countOf")
	e.world.Fail = nil
	if _, changes := e.up(); changes["update"] != 1 || e.world.Things["n"].Changes != 2 {
		t.Errorf("the failed create is gone on with by %v: %+v", changes, e.world.Things["n"])
	}
	e.up(optup.ExpectNoChanges())

	e.written["size"] = text("2GiB")
	e.world.Fail = errors.New("no room")
	e.contains(e.fails(), "can't update the anything: no room")
	e.world.Fail = nil
	delete(e.written, "size")
	if _, changes := e.up(); changes["update"] != 1 {
		t.Errorf("what failed is taken back by %v", changes)
	}
	e.up(optup.ExpectNoChanges())

	e.world.Before = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	e.written["size"] = text("3GiB")
	e.options = []sdk.ResourceOption{sdk.Timeouts(&sdk.CustomTimeouts{Update: "1s"})}
	e.contains(e.fails(), "update of anything took longer than 1s (customTimeouts.update)")
}

func TestEngineShowsWarnings(t *testing.T) {
	e := newEngine(t)
	e.written = sdk.Map{"name": text("n")}
	e.up()
	e.world.Silent = true
	r, err := e.stack.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.contains(r.StdOut, "warning: it does not answer")
}
