package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushable gives the image or index of that digest as the pushing library wants it.
func (c *contents) pushable(h v1.Hash) (remote.Taggable, error) {
	if c.manifests[h].mediaType.IsIndex() {
		return index{c, h, c.manifests[h]}, nil
	}
	return c.image(h)
}

func (c *contents) image(h v1.Hash) (v1.Image, error) {
	m, ok := c.manifests[h]
	if !ok || !m.mediaType.IsImage() {
		return nil, fmt.Errorf("the archive has no image %s", h)
	}
	return partial.CompressedToImage(image{c, m})
}

// image is a v1.Image once its blobs are known.
type image struct {
	contents *contents
	manifest
}

// RawConfigFile implements partial.CompressedImageCore.
func (i image) RawConfigFile() ([]byte, error) { return i.contents.configs[i.config], nil }

// MediaType implements partial.CompressedImageCore.
func (i image) MediaType() (types.MediaType, error) { return i.mediaType, nil }

// RawManifest implements partial.CompressedImageCore.
func (i image) RawManifest() ([]byte, error) { return i.raw, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (i image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	d, ok := i.layers[h]
	if !ok {
		return nil, fmt.Errorf("the image has no layer %s", h)
	}
	return layer{i.contents, d}, nil
}

// index implements v1.ImageIndex.
type index struct {
	contents *contents
	digest   v1.Hash
	manifest
}

// MediaType implements v1.ImageIndex.
func (i index) MediaType() (types.MediaType, error) { return i.mediaType, nil }

// Digest implements v1.ImageIndex.
func (i index) Digest() (v1.Hash, error) { return i.digest, nil }

// Size implements v1.ImageIndex.
func (i index) Size() (int64, error) { return int64(len(i.raw)), nil }

// RawManifest implements v1.ImageIndex.
func (i index) RawManifest() ([]byte, error) { return i.raw, nil }

// IndexManifest implements v1.ImageIndex.
func (i index) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(i.raw))
}

// Image implements v1.ImageIndex.
func (i index) Image(h v1.Hash) (v1.Image, error) { return i.contents.image(h) }

// ImageIndex implements v1.ImageIndex.
func (i index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	m, ok := i.contents.manifests[h]
	if !ok || !m.mediaType.IsIndex() {
		return nil, fmt.Errorf("the archive has no index %s", h)
	}
	return index{i.contents, h, m}, nil
}

// layer is a layer as it lies in the archive, compressed or not.
type layer struct {
	contents   *contents
	descriptor v1.Descriptor
}

// Digest implements partial.CompressedLayer.
func (l layer) Digest() (v1.Hash, error) { return l.descriptor.Digest, nil }

// Size implements partial.CompressedLayer.
func (l layer) Size() (int64, error) { return l.descriptor.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l layer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// Compressed implements partial.CompressedLayer.
func (l layer) Compressed() (io.ReadCloser, error) {
	at := l.contents.layers[l.descriptor.Digest]
	return io.NopCloser(&checked{
		source: l.contents.files.open(at),
		left:   at.size,
		hash:   sha256.New(),
		want:   l.descriptor.Digest,
	}), nil
}

// checked reads content whose digest is known. Where the content is another, the
// last read fails, so that a server never gets the whole of it.
type checked struct {
	source io.Reader
	left   int64
	hash   hash.Hash
	want   v1.Hash
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.source.Read(p)
	c.hash.Write(p[:n])
	c.left -= int64(n)
	ended := err == io.EOF
	if n > 0 && c.left == 0 || ended {
		if got := hex.EncodeToString(c.hash.Sum(nil)); got != c.want.Hex {
			return 0, &damaged{fmt.Sprintf("its layer %s is damaged or was changed: its digest is sha256:%s; save or copy it again", c.want, got)}
		}
	}
	return n, err
}

// damaged is what is wrong with a layer.
type damaged struct{ text string }

func (d *damaged) Error() string { return d.text }
