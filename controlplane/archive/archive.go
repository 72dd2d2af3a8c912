package archive

import (
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive is an open image archive that holds one whole image.
type Archive struct {
	path string
	file *os.File
	*contents
}

// contents is the image of an archive.
type contents struct {
	files *files
	root  v1.Hash
	// manifests are the root and, where it is an index, all under it.
	manifests map[v1.Hash]manifest
	// layers are where the blobs of the manifests lie, without the configurations.
	layers map[v1.Hash]member
	// configs are the configurations.
	configs map[v1.Hash][]byte
}

// manifest is a manifest or an index, as its bytes are.
type manifest struct {
	raw       []byte
	mediaType types.MediaType
	config    v1.Hash
	layers    map[v1.Hash]v1.Descriptor
	children  []v1.Descriptor
}

// Open opens the archive at path. The error says what is wrong with the file.
func Open(path string) (*Archive, error) {
	a, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("image archive %s: %w", path, err)
	}
	return a, nil
}

func open(path string) (*Archive, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // The path is in the message already.
	}
	info, err := file.Stat()
	if err == nil {
		err = regular(info.Mode())
	}
	var c *contents
	if err == nil {
		c, err = read(file, info.Size())
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Archive{path: path, file: file, contents: c}, nil
}

func regular(mode os.FileMode) error {
	switch {
	case mode.IsDir():
		return errors.New("it is a directory; pack the image layout in it with `tar -C DIRECTORY -cf FILE .`")
	case !mode.IsRegular():
		return errors.New("it is not a regular file; write the archive to one first")
	}
	return nil
}

// read reads an archive of that many bytes.
func read(source io.ReaderAt, size int64) (*contents, error) {
	f, err := readFiles(source, size)
	if err != nil {
		return nil, err
	}
	c := &contents{
		files:     f,
		manifests: map[v1.Hash]manifest{},
		layers:    map[v1.Hash]member{},
		configs:   map[v1.Hash][]byte{},
	}
	switch {
	case f.has("index.json"):
		err = c.readOCI()
	case f.has("manifest.json"):
		err = c.readDocker()
	default:
		err = errors.New("it is a tar file, but holds no image: it has neither index.json nor manifest.json; " +
			"give an archive such as `podman save --format oci-archive` writes")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Digest gives the image's digest, `sha256:HEX`.
func (a *Archive) Digest() string { return a.root.String() }

// Close closes the file.
func (a *Archive) Close() error {
	if err := a.file.Close(); err != nil {
		return fmt.Errorf("close image archive %s: %w", a.path, err)
	}
	return nil
}
