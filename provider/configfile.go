package provider

import (
	"context"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// ConfigFile is skerry_config.
type ConfigFile struct {
	// Endpoint of the cluster whose services use the config: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Config
	// What is in the file. Give this or `source`.
	Content string `json:"content,omitempty" iac:"optional"`
	// Path of a file on the machine that runs the plugin, which has the content. It is read at plan.
	Source string `json:"source,omitempty" iac:"optional"`
	// SHA-256 of the content, in hexadecimal digits. It is known at plan.
	SHA256 string `json:"sha256,omitempty" iac:"computed"`
}

// configs are those of clusters.
var configs = inside[ConfigFile, resources.ConfigStatus]{
	kind:  "config",
	where: func(f *ConfigFile) (*string, string) { return &f.Cluster, f.Name },
	find:  (*client.Server).Config,
	fill:  (*ConfigFile).fill,
	remove: func(ctx context.Context, server *client.Server, name string) ([]string, error) {
		used := func(s resources.ConfigStatus) bool { return len(s.Services) > 0 }
		return nil, removeUnused(ctx, name, server.DeleteConfig, server.WatchConfig, used)
	},
}

var configFile = definition.Resource[*Connections, ConfigFile]{
	Name:     "config",
	Doc:      "A file for replicas. Other content rolls the services that use it, and the apply waits for them.",
	ImportID: "The ID is `NAME@ENDPOINT`, with the endpoint of the cluster.",
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: time.Minute, Update: 20 * time.Minute, Delete: 5 * time.Minute},
	Check: func(f *ConfigFile) resources.Problems {
		p := f.Validate()
		checkCluster(&p, f.Cluster)
		if f.Content != "" && f.Source != "" {
			p.Addf("source", "is given beside content; leave one of them out")
		}
		if resources.Bytes(len(f.Content)) > resources.MaxContent {
			p.Addf("content", "has %d bytes; %s is the most", len(f.Content), resources.MaxContent)
		}
		return p
	},
	Plan:   planConfig,
	Create: putConfig,
	Read:   configs.read,
	Update: func(ctx context.Context, c *Connections, _, f *ConfigFile) error { return putConfig(ctx, c, f) },
	Delete: configs.delete,
	Import: configs.importer,
}

func planConfig(ctx context.Context, c *Connections, p *definition.Planning[ConfigFile]) resources.Problems {
	problems := configs.plan(ctx, c, p)
	if !p.Known("content") || !p.Known("source") {
		if p.Prior != nil {
			p.MayChange("sha256")
		}
		return problems
	}
	content, err := p.Planned.read()
	if err != nil {
		problems.Addf("source", "%v", err)
		return problems
	}
	p.Set("sha256", resources.ConfigSum(content))
	return problems
}

// read gives the content, from its file where there is one.
func (f *ConfigFile) read() ([]byte, error) {
	if f.Source == "" {
		return []byte(f.Content), nil
	}
	about, err := os.Stat(f.Source)
	if err == nil && resources.Bytes(about.Size()) > resources.MaxContent {
		err = fmt.Errorf("%s has %d bytes; %s is the most", f.Source, about.Size(), resources.MaxContent)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(f.Source)
}

func putConfig(ctx context.Context, c *Connections, f *ConfigFile) error {
	content, err := f.read()
	if err != nil {
		return resources.Invalid("source", "%v", err)
	}
	sum := resources.ConfigSum(content)
	if f.SHA256 != "" && f.SHA256 != sum {
		return resources.Invalid("source", "%s has changed since the plan: plan again", f.Source)
	}
	server, _, err := c.server(f.Cluster)
	if err != nil {
		return err
	}
	f.SHA256 = sum
	status, err := server.PutConfig(ctx, resources.ConfigFile{Config: f.Config, Content: content})
	if err != nil {
		return err
	}
	return awaitRevisions(ctx, server, status.Services)
}

// fill takes what the cluster has. What came from a file is known by its sum only.
func (f *ConfigFile) fill(status resources.ConfigStatus) []string {
	f.Config, f.SHA256 = status.Config, status.SHA256
	if f.Source == "" && utf8.Valid(status.Content) {
		f.Content = string(status.Content)
	}
	return nil
}
