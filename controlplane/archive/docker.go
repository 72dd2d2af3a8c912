package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// saved is an image in a docker archive's manifest.json
// (https://github.com/moby/moby/blob/master/image/spec/v1.2.md#combined-image-json--filesystem-changeset-format).
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// configHex finds the digest in the name of a configuration, where Podman, Docker
// and the build tools put it.
var configHex = regexp.MustCompile(`[0-9a-f]{64}`)

// readDocker reads the image of a docker archive, and makes its manifest.
func (c *contents) readDocker() error {
	image, err := c.saved()
	if err != nil {
		return err
	}
	config, err := c.files.document(image.Config)
	if err != nil {
		return err
	}
	var inside struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &inside); err != nil {
		return fmt.Errorf("its configuration %s is damaged: %w", image.Config, err)
	}
	diffs := inside.RootFS.DiffIDs
	if len(diffs) != len(image.Layers) {
		return fmt.Errorf("it has %d layers, and its configuration tells of %d; save it again", len(image.Layers), len(diffs))
	}
	m := manifest{mediaType: types.DockerManifestSchema2, layers: map[v1.Hash]v1.Descriptor{}}
	made := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2, Layers: []v1.Descriptor{}}
	if made.Config, err = describe(types.DockerConfigJSON, bytes.NewReader(config)); err != nil {
		return err
	}
	if want := configHex.FindString(path.Base(image.Config)); want != "" && want != made.Config.Digest.Hex {
		return fmt.Errorf("its configuration %s is damaged: its digest is %s; save or copy it again", image.Config, made.Config.Digest)
	}
	m.config = made.Config.Digest
	c.configs[m.config] = config
	for i, name := range image.Layers {
		d, err := c.dockerLayer(name, diffs[i])
		if err != nil {
			return err
		}
		made.Layers = append(made.Layers, d)
		m.layers[d.Digest] = d
	}
	if m.raw, err = json.Marshal(made); err != nil {
		return fmt.Errorf("make a manifest: %w", err)
	}
	if c.root, _, err = v1.SHA256(bytes.NewReader(m.raw)); err != nil {
		return fmt.Errorf("make a manifest: %w", err)
	}
	c.manifests[c.root] = m
	return nil
}

// saved reads manifest.json.
func (c *contents) saved() (saved, error) {
	data, err := c.files.document("manifest.json")
	if err != nil {
		return saved{}, err
	}
	var images []saved
	if err := json.Unmarshal(data, &images); err != nil {
		return saved{}, fmt.Errorf("its manifest.json is damaged: %w", err)
	}
	var names []string
	for _, image := range images {
		names = append(names, strings.Join(image.RepoTags, " "))
	}
	if err := oneImage(len(images), names); err != nil {
		return saved{}, err
	}
	return images[0], nil
}

// dockerLayer reads a layer, which is taken as it is. An uncompressed one must be
// what the configuration says that it is.
func (c *contents) dockerLayer(name, diff string) (v1.Descriptor, error) {
	found, err := c.files.find(name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	mediaType := types.DockerUncompressedLayer
	head := make([]byte, 8)
	n, err := c.files.open(found).Read(head)
	if err != nil && !errors.Is(err, io.EOF) {
		return v1.Descriptor{}, fmt.Errorf("read its layer %s: %w", name, err)
	}
	for _, compression := range compressions {
		if bytes.HasPrefix(head[:n], []byte(compression.magic)) {
			if compression.name != "gzip" {
				return v1.Descriptor{}, fmt.Errorf("its layer %s is compressed with %s, which docker archives don't have; save it as an OCI archive", name, compression.name)
			}
			mediaType = types.DockerLayer
		}
	}
	d, err := describe(mediaType, c.files.open(found))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("read its layer %s: %w", name, err)
	}
	if mediaType == types.DockerUncompressedLayer && d.Digest.String() != diff {
		return v1.Descriptor{}, fmt.Errorf("its layer %s is damaged: its digest is %s and should be %s; save or copy it again", name, d.Digest, diff)
	}
	c.layers[d.Digest] = found
	return d, nil
}

// describe reads content to its end.
func describe(mediaType types.MediaType, content io.Reader) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(content)
	return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, err
}
