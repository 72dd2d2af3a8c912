// Command pulumi-resource-skerry is the plugin for Pulumi.
package main

import (
	"fmt"
	"log/slog"
	"os"

	engine "github.com/pulumi/pulumi/sdk/v3/go/pulumi/provider"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/skerry-io/skerry/provider"
	"github.com/skerry-io/skerry/provider/pulumi"
)

// version is set by the linker.
var version = "0.0.0-dev"

func main() {
	err := engine.Main("skerry", func(host *engine.HostClient) (pulumirpc.ResourceProviderServer, error) {
		log := pulumi.NewLog(host)
		p, err := provider.New(slog.New(log), version)
		if err != nil {
			return nil, err
		}
		return pulumi.New(p, version, log)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-skerry:", err)
		os.Exit(1)
	}
}
