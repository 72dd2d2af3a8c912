package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/archive"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Image is skerry_image.
type Image struct {
	// Endpoint of the cluster that keeps the image: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Image
	// Digest of the image, as `sha256:HEX`. It is known at plan.
	Digest string `json:"digest,omitempty" iac:"computed"`
	// Reference of the image, for `image` of a service.
	Reference string `json:"reference,omitempty" iac:"computed"`
}

var image = definition.Resource[*Connections, Image]{
	Name:     "image",
	Doc:      "A container image from a file, in the cluster's own registry.",
	ImportID: "The ID is `NAME=ARCHIVE@ENDPOINT`, with the path of the image's file and the endpoint of the cluster.",
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: time.Minute, Update: 20 * time.Minute, Delete: 5 * time.Minute},
	Check: func(i *Image) resources.Problems {
		p := i.Validate()
		checkCluster(&p, i.Cluster)
		return p
	},
	Plan:   planImage,
	Create: pushImage,
	Read:   readImage,
	Update: func(ctx context.Context, c *Connections, prior, i *Image) error {
		if err := pushImage(ctx, c, i); err != nil || prior.Digest == i.Digest {
			return err
		}
		server, _, err := c.server(i.Cluster)
		if err != nil {
			return err
		}
		return server.DeleteImage(ctx, prior.Name, prior.Digest)
	},
	Delete: deleteImage,
	Import: importImage,
}

func planImage(_ context.Context, _ *Connections, p *definition.Planning[Image]) resources.Problems {
	var problems resources.Problems
	if p.Prior != nil && p.Known("cluster") && otherCluster(p.Prior.Cluster, p.Planned.Cluster) {
		p.Replace("cluster")
	}
	if !p.Known("archive") || !p.Known("name") {
		if p.Prior != nil {
			p.MayChange("digest", "reference")
		}
		return nil
	}
	opened, err := archive.Open(p.Planned.Archive)
	if err != nil {
		problems.Addf("archive", "%v", err)
		return problems
	}
	defer opened.Close() //nolint:errcheck // it was read
	p.Set("digest", opened.Digest())
	p.Set("reference", resources.ImageReference(p.Planned.Name, opened.Digest()))
	return problems
}

func pushImage(ctx context.Context, c *Connections, i *Image) error {
	opened, err := archive.Open(i.Archive)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer opened.Close() //nolint:errcheck // it was read
	if i.Digest != "" && opened.Digest() != i.Digest {
		return fmt.Errorf("archive: %s has changed since the plan: plan again", i.Archive)
	}
	i.Digest, i.Reference = opened.Digest(), resources.ImageReference(i.Name, opened.Digest())
	server, _, err := c.server(i.Cluster)
	if err != nil {
		return err
	}
	return opened.Push(ctx, i.Name, server.Registry())
}

func readImage(ctx context.Context, c *Connections, i *Image) (definition.Reading, error) {
	server, _, err := c.server(i.Cluster)
	if err != nil {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := server.HasImage(ctx, i.Name, i.Digest)
	if err != nil {
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of image %s stays as it was: %v", i.Name, err)}}, nil
	}
	return definition.Reading{Gone: !found}, nil
}

func deleteImage(ctx context.Context, c *Connections, i *Image) ([]string, error) {
	return c.remove(ctx, i.Cluster, "image "+i.Name, func(ctx context.Context, server *client.Server) ([]string, error) {
		return nil, server.DeleteImage(ctx, i.Name, i.Digest)
	})
}

// importImage finds `NAME=ARCHIVE@ENDPOINT`: the file, because the cluster does
// not know where an image came from, and the cluster's endpoint.
func importImage(ctx context.Context, c *Connections, id string) (*Image, error) {
	what, endpoint, found := strings.Cut(id, "@")
	name, path, both := strings.Cut(what, "=")
	if !found || !both {
		return nil, errors.New("import: the ID is NAME=ARCHIVE@ENDPOINT, with the path of the image's file and the endpoint of the cluster")
	}
	opened, err := archive.Open(path)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer opened.Close() //nolint:errcheck // it was read
	i := &Image{Cluster: endpoint, Image: resources.Image{Name: name, Archive: path}, Digest: opened.Digest()}
	i.Reference = resources.ImageReference(name, i.Digest)
	server, _, err := c.server(endpoint)
	if err != nil {
		return nil, err
	}
	has, err := server.HasImage(ctx, name, i.Digest)
	if err == nil && !has {
		err = fmt.Errorf("import: the cluster's registry has no %s", i.Reference)
	}
	return i, err
}
