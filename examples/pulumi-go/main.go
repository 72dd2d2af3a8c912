// Command pulumi-go is the quickstart as a Pulumi program; see package program.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/skerry-io/skerry/examples/pulumi-go/program"
)

func main() { pulumi.Run(program.Program) }
