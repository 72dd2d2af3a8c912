// Package program is a cluster: nodes in a loop, a network of its own for what
// belongs together, a database whose data outlives it and whose password nobody
// else gets, and a web service that depends on it.
package program

import (
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"

	"github.com/skerry-io/skerry/sdk/go/skerry"
)

// Program makes it all. Pulumi.yaml says what can be configured.
func Program(ctx *pulumi.Context) error {
	settings := config.New(ctx, "")
	machines, err := machines(ctx, settings)
	if err != nil {
		return err
	}
	servers := 1
	if len(machines) >= 3 {
		servers = 3
	}
	home, err := skerry.NewCluster(ctx, "home", &skerry.ClusterArgs{
		Name:    pulumi.String("home"),
		Servers: machines[:servers],
		Workers: machines[servers:],
	})
	if err != nil {
		return err
	}
	backend, err := skerry.NewNetwork(ctx, "backend", &skerry.NetworkArgs{
		Cluster: home.Endpoint,
		Name:    pulumi.String("backend"),
	})
	if err != nil {
		return err
	}
	database, err := database(ctx, settings, home, backend)
	if err != nil {
		return err
	}
	web, err := web(ctx, settings, home, backend, database)
	if err != nil {
		return err
	}
	ctx.Export("cluster", home.Endpoint)
	ctx.Export("addresses", web.Addresses)
	return nil
}

// machines gives the endpoints of the nodes: of virtual machines, unless there
// are others already.
func machines(ctx *pulumi.Context, settings *config.Config) (pulumi.StringArray, error) {
	var given []string
	if err := settings.TryObject("machines", &given); err == nil && len(given) > 0 {
		return pulumi.ToStringArray(given), nil
	}
	var endpoints pulumi.StringArray
	for i := range settings.RequireInt("nodes") {
		name := fmt.Sprintf("node-%d", i+1)
		node, err := skerry.NewNode(ctx, name, &skerry.NodeArgs{
			Name:     pulumi.String(name),
			Image:    &skerry.NodeImageArgs{Source: pulumi.String(settings.Require("nodeImage"))},
			Pool:     pulumi.String(settings.Require("pool")),
			Memory:   pulumi.String("1GiB"),
			DataDisk: &skerry.NodeDataDiskArgs{Size: pulumi.String("5GiB")},
			Networks: skerry.NodeAttachmentArray{&skerry.NodeAttachmentArgs{Network: pulumi.String(settings.Require("libvirtNetwork"))}},
		})
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, node.Endpoint)
	}
	return endpoints, nil
}

// database runs the database, with its data on a volume and its password in a
// file that only it can read.
func database(ctx *pulumi.Context, settings *config.Config, home *skerry.Cluster, backend *skerry.Network) (*skerry.Service, error) {
	var on pulumi.StringArray
	if node := settings.Get("databaseNode"); node != "" {
		on = pulumi.StringArray{pulumi.String("node.name == " + node)}
	}
	rows, err := skerry.NewVolume(ctx, "rows", &skerry.VolumeArgs{
		Cluster:     home.Endpoint,
		Name:        pulumi.String("rows"),
		Constraints: on,
	})
	if err != nil {
		return nil, err
	}
	password, err := skerry.NewSecret(ctx, "password", &skerry.SecretArgs{
		Cluster: home.Endpoint,
		Name:    pulumi.String("database-password"),
		Value:   settings.RequireSecret("databasePassword"),
	})
	if err != nil {
		return nil, err
	}
	reference, err := image(ctx, home, "database", settings.Require("databaseImage"))
	if err != nil {
		return nil, err
	}
	return skerry.NewService(ctx, "database", &skerry.ServiceArgs{
		Cluster:   home.Endpoint,
		Name:      pulumi.String("database"),
		Image:     reference,
		Networks:  pulumi.StringArray{backend.Name},
		Env:       pulumi.StringMap{"POSTGRES_PASSWORD_FILE": pulumi.String("/run/secrets/database-password")},
		Secrets:   skerry.ServiceSecretMountArray{&skerry.ServiceSecretMountArgs{Secret: password.Name}},
		Mounts:    skerry.ServiceMountArray{&skerry.ServiceMountArgs{Volume: rows.Name, Path: pulumi.String(settings.Require("databasePath"))}},
		Resources: &skerry.ServiceReservationArgs{Cpu: pulumi.String("100m"), Memory: pulumi.String("128MiB")},
		Health: &skerry.ServiceHealthArgs{Readiness: &skerry.ServiceProbeArgs{
			Tcp:      &skerry.ServiceTCPProbeArgs{Port: pulumi.Int(settings.RequireInt("databasePort"))},
			Interval: pulumi.String("2s"),
		}},
	})
}

// web runs the web service, once the database is ready.
func web(ctx *pulumi.Context, settings *config.Config, home *skerry.Cluster, backend *skerry.Network, database *skerry.Service) (*skerry.Service, error) {
	reference, err := image(ctx, home, "web", settings.Require("webImage"))
	if err != nil {
		return nil, err
	}
	return skerry.NewService(ctx, "web", &skerry.ServiceArgs{
		Cluster:   home.Endpoint,
		Name:      pulumi.String("web"),
		Image:     reference,
		Replicas:  pulumi.Int(2),
		Networks:  pulumi.StringArray{backend.Name},
		Env:       pulumi.StringMap{"DATABASE": pulumi.Sprintf("%s:%d", database.Name, settings.RequireInt("databasePort"))},
		Resources: &skerry.ServiceReservationArgs{Cpu: pulumi.String("100m"), Memory: pulumi.String("64MiB")},
		Ports:     skerry.ServicePortArray{&skerry.ServicePortArgs{Target: pulumi.Int(8080), Published: pulumi.Int(80)}},
		Update:    &skerry.ServiceUpdateArgs{Order: pulumi.String("start-first"), OnFailure: pulumi.String("rollback")},
	}, pulumi.DependsOn([]pulumi.Resource{database}))
}

// image gives the reference of an image. One from a file goes into the cluster's
// own registry.
func image(ctx *pulumi.Context, home *skerry.Cluster, name, source string) (pulumi.StringInput, error) {
	if !strings.HasSuffix(source, ".tar") {
		return pulumi.String(source), nil
	}
	pushed, err := skerry.NewImage(ctx, name, &skerry.ImageArgs{
		Cluster: home.Endpoint,
		Name:    pulumi.String(name),
		Archive: pulumi.String(source),
	})
	if err != nil {
		return nil, err
	}
	return pushed.Reference, nil
}
