package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func (a *Archive) readOCI() error {
	var root v1.IndexManifest
	if err := a.decode("index.json", &root); err != nil {
		return err
	}
	if len(root.Manifests) != 1 {
		return fmt.Errorf("it holds %d images; give a file with one", len(root.Manifests))
	}
	descriptor := root.Manifests[0]
	a.digest = descriptor.Digest
	manifest, err := a.blob(descriptor.Digest)
	if err != nil {
		return err
	}
	if descriptor.MediaType.IsIndex() {
		a.index, err = a.ociIndex(manifest, descriptor.MediaType)
		return err
	}
	a.image, err = a.ociImage(manifest, descriptor.MediaType)
	return err
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// blob reads a small blob, and checks that it is the one that was asked for.
func (a *Archive) blob(h v1.Hash) ([]byte, error) {
	content, err := a.document(blobPath(h))
	if err != nil {
		return nil, err
	}
	got, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if got != h {
		return nil, fmt.Errorf("%s does not have its own digest: the file is damaged", blobPath(h))
	}
	return content, nil
}

func (a *Archive) ociImage(manifest []byte, media types.MediaType) (v1.Image, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return nil, fmt.Errorf("its manifest is not what it should be: %w", err)
	}
	config, err := a.blob(parsed.Config.Digest)
	if err != nil {
		return nil, err
	}
	stored := &storedImage{archive: a, manifest: manifest, media: media, config: config, layers: map[v1.Hash]storedLayer{}}
	for _, layer := range parsed.Layers {
		part, err := a.part(blobPath(layer.Digest))
		if err != nil {
			return nil, err
		}
		if part.Size() != layer.Size {
			return nil, fmt.Errorf("layer %s has %d bytes, and its manifest says %d: the file is damaged", layer.Digest, part.Size(), layer.Size)
		}
		stored.layers[layer.Digest] = storedLayer{part, layer.Digest, layer.MediaType}
	}
	return partial.CompressedToImage(stored)
}

// storedImage is an image whose parts stand in the file.
type storedImage struct {
	archive  *Archive
	manifest []byte
	media    types.MediaType
	config   []byte
	layers   map[v1.Hash]storedLayer
}

func (s *storedImage) RawManifest() ([]byte, error)        { return s.manifest, nil }
func (s *storedImage) RawConfigFile() ([]byte, error)      { return s.config, nil }
func (s *storedImage) MediaType() (types.MediaType, error) { return s.media, nil }
func (s *storedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	layer, found := s.layers[h]
	if !found {
		return nil, fmt.Errorf("layer %s is missing", h)
	}
	return layer, nil
}

type storedLayer struct {
	part   *io.SectionReader
	digest v1.Hash
	media  types.MediaType
}

func (l storedLayer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l storedLayer) Size() (int64, error)                { return l.part.Size(), nil }
func (l storedLayer) MediaType() (types.MediaType, error) { return l.media, nil }
func (l storedLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.part, 0, l.part.Size())), nil
}

// maxDepth bounds indexes within indexes.
const maxDepth = 4

func (a *Archive) ociIndex(manifest []byte, media types.MediaType) (v1.ImageIndex, error) {
	return a.ociIndexAt(manifest, media, 0)
}

func (a *Archive) ociIndexAt(manifest []byte, media types.MediaType, depth int) (v1.ImageIndex, error) {
	if depth == maxDepth {
		return nil, errors.New("its indexes are nested too deeply")
	}
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(manifest))
	if err != nil {
		return nil, fmt.Errorf("its index is not what it should be: %w", err)
	}
	stored := &storedIndex{manifest: manifest, media: media, parsed: parsed, images: map[v1.Hash]v1.Image{}, indexes: map[v1.Hash]v1.ImageIndex{}}
	for _, child := range parsed.Manifests {
		content, err := a.blob(child.Digest)
		if err != nil {
			return nil, err
		}
		if child.MediaType.IsIndex() {
			stored.indexes[child.Digest], err = a.ociIndexAt(content, child.MediaType, depth+1)
		} else {
			stored.images[child.Digest], err = a.ociImage(content, child.MediaType)
		}
		if err != nil {
			return nil, err
		}
	}
	return stored, nil
}

// storedIndex is an image index whose parts stand in the file.
type storedIndex struct {
	manifest []byte
	media    types.MediaType
	parsed   *v1.IndexManifest
	images   map[v1.Hash]v1.Image
	indexes  map[v1.Hash]v1.ImageIndex
}

func (s *storedIndex) MediaType() (types.MediaType, error)         { return s.media, nil }
func (s *storedIndex) Digest() (v1.Hash, error)                    { return partial.Digest(s) }
func (s *storedIndex) Size() (int64, error)                        { return int64(len(s.manifest)), nil }
func (s *storedIndex) IndexManifest() (*v1.IndexManifest, error)   { return s.parsed.DeepCopy(), nil }
func (s *storedIndex) RawManifest() ([]byte, error)                { return s.manifest, nil }
func (s *storedIndex) Image(h v1.Hash) (v1.Image, error)           { return found(s.images, h) }
func (s *storedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) { return found(s.indexes, h) }

func found[T any](all map[v1.Hash]T, h v1.Hash) (T, error) {
	one, ok := all[h]
	if !ok {
		return one, fmt.Errorf("%s is missing", h)
	}
	return one, nil
}

// dockerManifest is one image of a docker archive's manifest.json.
type dockerManifest struct {
	Config string
	Layers []string
}

func (a *Archive) readDocker() error {
	var all []dockerManifest
	if err := a.decode("manifest.json", &all); err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("it holds %d images; give a file with one", len(all))
	}
	config, err := a.document(all[0].Config)
	if err != nil {
		return err
	}
	parsed, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return fmt.Errorf("%s is not what it should be: %w", all[0].Config, err)
	}
	if len(parsed.RootFS.DiffIDs) != len(all[0].Layers) {
		return fmt.Errorf("its manifest names %d layers, and its configuration %d: the file is damaged", len(all[0].Layers), len(parsed.RootFS.DiffIDs))
	}
	configDigest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return err
	}
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: size, Digest: configDigest},
		Layers: []v1.Descriptor{},
	}
	stored := &storedImage{archive: a, media: manifest.MediaType, config: config, layers: map[v1.Hash]storedLayer{}}
	for i, name := range all[0].Layers {
		layer, err := a.dockerLayer(name, parsed.RootFS.DiffIDs[i])
		if err != nil {
			return err
		}
		stored.layers[layer.digest] = layer
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: layer.media, Size: layer.part.Size(), Digest: layer.digest})
	}
	if stored.manifest, err = json.Marshal(manifest); err != nil {
		return err
	}
	if a.digest, _, err = v1.SHA256(bytes.NewReader(stored.manifest)); err != nil {
		return err
	}
	a.image, err = partial.CompressedToImage(stored)
	return err
}

// dockerLayer takes a layer as it stands in the file. One that is not
// compressed has the digest that the configuration states.
func (a *Archive) dockerLayer(name string, diffID v1.Hash) (storedLayer, error) {
	part, err := a.part(name)
	if err != nil {
		return storedLayer{}, err
	}
	head := make([]byte, 2)
	if _, err := part.ReadAt(head, 0); err == nil && bytes.Equal(head, []byte{0x1f, 0x8b}) {
		digest, _, err := v1.SHA256(io.NewSectionReader(part, 0, part.Size()))
		return storedLayer{part, digest, types.OCILayer}, err
	}
	return storedLayer{part, diffID, types.OCIUncompressedLayer}, nil
}
