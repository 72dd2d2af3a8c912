package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxDepth is how deep an index may hold indexes.
const maxDepth = 4

// readOCI reads the image of an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
func (c *contents) readOCI() error {
	data, err := c.files.document("index.json")
	if err != nil {
		return err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("its index.json is damaged: %w", err)
	}
	root, err := theOne(index.Manifests)
	if err != nil {
		return err
	}
	if err := c.readManifest(root, 0); err != nil {
		only, ok := c.onlyPlatform(root)
		if !ok {
			return err
		}
		root = only
	}
	c.root = root.Digest
	return nil
}

// theOne is the image of a layout that has one, under whatever many names.
func theOne(listed []v1.Descriptor) (v1.Descriptor, error) {
	images := map[v1.Hash]bool{}
	var names []string
	for _, d := range listed {
		images[d.Digest] = true
		for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if name := d.Annotations[key]; name != "" {
				names = append(names, name)
				break
			}
		}
	}
	if err := oneImage(len(images), names); err != nil {
		return v1.Descriptor{}, err
	}
	return listed[0], nil
}

// oneImage refuses archives of none and of several images.
func oneImage(n int, names []string) error {
	switch {
	case n == 0:
		return errors.New("it holds no image; save one into it")
	case n == 1:
		return nil
	case len(names) == 0:
		return fmt.Errorf("it holds %d images; save each into an archive of its own", n)
	}
	return fmt.Errorf("it holds %d images (%s); save each into an archive of its own", n, strings.Join(names, ", "))
}

// onlyPlatform finds the image to take of an index of many platforms of which one
// only is in the archive, as `docker save` writes them. The others are absent
// altogether: a platform that is there in part is a damaged archive.
func (c *contents) onlyPlatform(root v1.Descriptor) (v1.Descriptor, bool) {
	data, err := c.blob(root)
	if err != nil || !root.MediaType.IsIndex() {
		return v1.Descriptor{}, false
	}
	var index v1.IndexManifest
	if json.Unmarshal(data, &index) != nil {
		return v1.Descriptor{}, false
	}
	var whole []v1.Descriptor
	for _, d := range index.Manifests {
		attests := d.Annotations["vnd.docker.reference.type"] != ""
		switch {
		case attests || !c.files.has(blobName(d.Digest)):
		case !d.MediaType.IsImage() || c.readManifest(d, 1) != nil:
			return v1.Descriptor{}, false
		default:
			whole = append(whole, d)
		}
	}
	if len(whole) != 1 {
		return v1.Descriptor{}, false
	}
	return whole[0], true
}

// blobName is where a layout keeps a blob.
func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// blob reads a manifest or a configuration, and checks its digest.
func (c *contents) blob(d v1.Descriptor) ([]byte, error) {
	data, err := c.files.document(blobName(d.Digest))
	if err != nil {
		return nil, err
	}
	got, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if got != d.Digest {
		return nil, fmt.Errorf("its file %s is damaged: its digest is %s; save or copy it again", blobName(d.Digest), got)
	}
	return data, nil
}

// readManifest reads a manifest or an index, and all that it refers to.
func (c *contents) readManifest(d v1.Descriptor, depth int) error {
	if _, ok := c.manifests[d.Digest]; ok {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("its indexes nest deeper than %d", maxDepth)
	}
	if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
		return fmt.Errorf("it holds something else than a container image: %s has media type %q", d.Digest, d.MediaType)
	}
	data, err := c.blob(d)
	if err != nil {
		return err
	}
	m := manifest{raw: data, mediaType: d.MediaType, layers: map[v1.Hash]v1.Descriptor{}}
	if d.MediaType.IsIndex() {
		err = c.readIndex(&m, d, depth)
	} else {
		err = c.readImage(&m, d)
	}
	if err != nil {
		return err
	}
	c.manifests[d.Digest] = m
	return nil
}

func (c *contents) readIndex(m *manifest, d v1.Descriptor, depth int) error {
	var index v1.IndexManifest
	if err := json.Unmarshal(m.raw, &index); err != nil {
		return fmt.Errorf("its index %s is damaged: %w", d.Digest, err)
	}
	if err := sameType(d, index.MediaType); err != nil {
		return err
	}
	m.children = index.Manifests
	for _, child := range index.Manifests {
		if err := c.readManifest(child, depth+1); err != nil {
			if child.Platform != nil {
				return fmt.Errorf("platform %s: %w", child.Platform, err)
			}
			return err
		}
	}
	return nil
}

func (c *contents) readImage(m *manifest, d v1.Descriptor) error {
	var image v1.Manifest
	if err := json.Unmarshal(m.raw, &image); err != nil {
		return fmt.Errorf("its manifest %s is damaged: %w", d.Digest, err)
	}
	if err := sameType(d, image.MediaType); err != nil {
		return err
	}
	config, err := c.blob(image.Config)
	if err != nil {
		return err
	}
	m.config = image.Config.Digest
	c.configs[image.Config.Digest] = config
	for _, l := range image.Layers {
		if len(l.URLs) > 0 {
			return fmt.Errorf("its layer %s is to be fetched from elsewhere, which skerry does not do", l.Digest)
		}
		found, err := c.files.find(blobName(l.Digest))
		if err != nil {
			return err
		}
		if found.size != l.Size {
			return fmt.Errorf("its file %s has %d bytes and should have %d; save or copy it again", blobName(l.Digest), found.size, l.Size)
		}
		m.layers[l.Digest] = l
		c.layers[l.Digest] = found
	}
	return nil
}

// sameType refuses a manifest that says it is of another kind than whoever refers
// to it says.
func sameType(d v1.Descriptor, says types.MediaType) error {
	if says != "" && says != d.MediaType {
		return fmt.Errorf("its manifest %s is of type %s and is listed as %s", d.Digest, says, d.MediaType)
	}
	return nil
}
