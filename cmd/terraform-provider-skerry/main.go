// Command terraform-provider-skerry is the plugin for Terraform and OpenTofu.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os"

	tfprovider "github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/skerry-io/skerry/provider"
	"github.com/skerry-io/skerry/provider/terraform"
)

// version is set by the linker.
var version = "dev"

// Address is the plugin's place in the registry of plugins.
const address = "registry.terraform.io/skerry-io/skerry"

func main() {
	debug := flag.Bool("debug", false, "print how a debugger's Terraform attaches to this process")
	flag.Parse()
	// Terraform takes each line of stderr into its log.
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := provider.New(logger, version)
	if err != nil {
		log.Fatal(err)
	}
	serve := func() tfprovider.Provider { return terraform.New(p, version) }
	if err := providerserver.Serve(context.Background(), serve, providerserver.ServeOpts{Address: address, Debug: *debug}); err != nil {
		log.Fatal(err)
	}
}
