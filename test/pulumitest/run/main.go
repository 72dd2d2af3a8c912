// Command run runs an example of a Pulumi program where Pulumi's language host
// for Go is not there: `make demo PLUGIN=pulumi`, and tests in a network
// namespace of their own. Where it is, `pulumi up` in the example's directory
// does the same.
//
//	run -dir DIRECTORY [-config KEY=VALUE]... EXAMPLE preview|up|settled|refresh|destroy|outputs
//
// settled is an up that has nothing to change.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optrefresh"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/skerry-io/skerry/examples/pulumi-go-cluster/program"
	quickstart "github.com/skerry-io/skerry/examples/pulumi-go/program"
	"github.com/skerry-io/skerry/test/pulumitest"
)

// examples are those that can be run, by directory.
var examples = map[string]pulumi.RunFunc{"pulumi-go": quickstart.Program, "pulumi-go-cluster": program.Program}

func main() {
	log.SetFlags(0)
	log.SetPrefix("run: ")
	settings := auto.ConfigMap{}
	root := flag.String("root", ".", "directory of the repository")
	dir := flag.String("dir", "", "directory for the state")
	flag.Func("config", "KEY=VALUE of the stack's configuration", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found {
			return fmt.Errorf("%q has no =", text)
		}
		settings[key] = auto.ConfigValue{Value: value}
		return nil
	})
	flag.Parse()
	program := examples[flag.Arg(0)]
	if flag.NArg() != 2 || program == nil || *dir == "" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	stack, err := pulumitest.Stack(ctx, pulumitest.Options{Root: *root, Dir: *dir, Project: flag.Arg(0), Program: program})
	if err == nil {
		err = stack.SetAllConfig(ctx, settings)
	}
	if err == nil {
		err = run(ctx, &stack, flag.Arg(1))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stack *auto.Stack, verb string) (err error) {
	switch verb {
	case "preview":
		_, err = stack.Preview(ctx, optpreview.ProgressStreams(os.Stdout))
	case "up":
		_, err = stack.Up(ctx, optup.ProgressStreams(os.Stdout))
	case "settled":
		_, err = stack.Up(ctx, optup.ProgressStreams(os.Stdout), optup.ExpectNoChanges(), optup.Diff())
	case "refresh":
		_, err = stack.Refresh(ctx, optrefresh.ProgressStreams(os.Stdout))
	case "destroy":
		_, err = stack.Destroy(ctx, optdestroy.ProgressStreams(os.Stdout))
	case "outputs":
		return outputs(ctx, stack)
	default:
		return fmt.Errorf("there is nothing to do by the name of %q", verb)
	}
	return err
}

// outputs prints what the program has exported, as JSON.
func outputs(ctx context.Context, stack *auto.Stack) error {
	all, err := stack.Outputs(ctx)
	if err != nil {
		return err
	}
	plain := map[string]any{}
	for name, o := range all {
		plain[name] = o.Value
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(plain)
}
