// Package program is the quickstart: a virtual machine, a control plane on it,
// and a service that answers over HTTP, in one `pulumi up`. `make demo
// PLUGIN=pulumi` runs it with everything it needs.
package program

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"

	"github.com/skerry-io/skerry/sdk/go/skerry"
)

// Program makes it all. Pulumi.yaml says what can be configured.
func Program(ctx *pulumi.Context) error {
	settings := config.New(ctx, "")
	plugin, err := skerry.NewProvider(ctx, "skerry", &skerry.ProviderArgs{
		Hypervisor: pulumi.String(settings.Get("hypervisor")),
		Ssh:        &skerry.ProviderSSHArgs{Key: pulumi.String(settings.Get("sshKey"))},
	})
	if err != nil {
		return err
	}
	with := pulumi.Provider(plugin)

	one, err := skerry.NewNode(ctx, "one", &skerry.NodeArgs{
		Name:     pulumi.String(settings.Get("node")),
		Image:    &skerry.NodeImageArgs{Source: pulumi.String(settings.Get("image"))},
		Pool:     pulumi.String(settings.Get("pool")),
		Cpus:     pulumi.Int(2),
		Memory:   pulumi.String("1GiB"),
		Disk:     pulumi.String("4GiB"),
		DataDisk: &skerry.NodeDataDiskArgs{Size: pulumi.String("2GiB")},
		Networks: skerry.NodeAttachmentArray{&skerry.NodeAttachmentArgs{Network: pulumi.String(settings.Get("network"))}},
	}, with)
	if err != nil {
		return err
	}

	home, err := skerry.NewCluster(ctx, "home", &skerry.ClusterArgs{
		Name:    pulumi.String("home"),
		Servers: pulumi.StringArray{one.Endpoint},
	}, with)
	if err != nil {
		return err
	}

	// The image goes into the cluster's own registry: no other one is needed.
	image, err := skerry.NewImage(ctx, "web", &skerry.ImageArgs{
		Cluster: home.Endpoint,
		Name:    pulumi.String("web"),
		Archive: pulumi.String(settings.Get("archive")),
	}, with)
	if err != nil {
		return err
	}

	_, err = skerry.NewService(ctx, "web", &skerry.ServiceArgs{
		Cluster:   home.Endpoint,
		Name:      pulumi.String("web"),
		Image:     image.Reference,
		Replicas:  pulumi.Int(1),
		Env:       pulumi.StringMap{"GREETING": pulumi.String(settings.Get("greeting"))},
		Resources: &skerry.ServiceReservationArgs{Cpu: pulumi.String("100m"), Memory: pulumi.String("64MiB")},
		Ports:     skerry.ServicePortArray{&skerry.ServicePortArgs{Target: pulumi.Int(8080), Published: pulumi.Int(80)}},
	}, with)
	if err != nil {
		return err
	}

	ctx.Export("url", pulumi.Sprintf("http://%s", one.Address))
	ctx.Export("address", one.Address)
	ctx.Export("cluster", home.Endpoint)
	return nil
}
