// Command pulumi-go-cluster is a cluster of several nodes; see package program.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/skerry-io/skerry/examples/pulumi-go-cluster/program"
)

func main() { pulumi.Run(program.Program) }
