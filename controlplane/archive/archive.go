// Package archive reads container images from files, as `podman save`, `docker
// save`, skopeo and buildah write them, and pushes them to a cluster's registry.
//
// An OCI archive is pushed as it is, so its digest is the one that it states. A
// docker archive states none. Its layers are pushed as they stand in the file,
// never compressed again, so that its digest follows from the content alone and
// stays the same whatever version of skerry computes it.
//
// Nothing is unpacked: the tar file is indexed once, and its parts are read in
// place.
package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skerry-io/skerry/resources"
)

// Archive is one image, or one image index, in a file.
type Archive struct {
	file   *os.File
	parts  map[string]*io.SectionReader
	digest v1.Hash
	// One of the two is set.
	image v1.Image
	index v1.ImageIndex
}

// Open reads what the file holds. Errors say what is wrong with it.
func Open(file string) (*Archive, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	a := &Archive{file: opened}
	if err := a.read(); err != nil {
		opened.Close() //nolint:errcheck // it was read
		return nil, fmt.Errorf("read the image %s: %w", file, err)
	}
	return a, nil
}

// Close closes the file.
func (a *Archive) Close() error { return a.file.Close() }

// Digest is the digest of the image's manifest, or of its index, as
// `sha256:HEX`.
func (a *Archive) Digest() string { return a.digest.String() }

func (a *Archive) read() error {
	var err error
	if a.parts, err = index(a.file); err != nil {
		return err
	}
	switch {
	case a.parts["index.json"] != nil && a.parts["oci-layout"] != nil:
		err = a.readOCI()
	case a.parts["manifest.json"] != nil:
		err = a.readDocker()
	default:
		return errors.New("it is neither an OCI nor a docker archive: it has no index.json and no manifest.json; write it with podman save or docker save")
	}
	return err
}

// maxDocument bounds the size of a manifest or a configuration, in bytes.
const maxDocument = 8 << 20

// index finds the parts of a tar file.
func index(file *os.File) (map[string]*io.SectionReader, error) {
	parts := map[string]*io.SectionReader{}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it ends within a file: it was cut off, or is no tar file")
		}
		if err != nil {
			return nil, fmt.Errorf("it is not a whole tar file: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if at+header.Size > info.Size() {
			return nil, fmt.Errorf("it ends within %s: it was cut off", header.Name)
		}
		parts[path.Clean(header.Name)] = io.NewSectionReader(file, at, header.Size)
	}
}

// part opens a part anew.
func (a *Archive) part(name string) (*io.SectionReader, error) {
	found := a.parts[path.Clean(name)]
	if found == nil {
		return nil, fmt.Errorf("%s is missing in it", name)
	}
	return io.NewSectionReader(found, 0, found.Size()), nil
}

// document reads a small part.
func (a *Archive) document(name string) ([]byte, error) {
	found, err := a.part(name)
	if err != nil {
		return nil, err
	}
	if found.Size() > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes, and %d is the most", name, found.Size(), maxDocument)
	}
	return io.ReadAll(found)
}

func (a *Archive) decode(name string, value any) error {
	text, err := a.document(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", name, err)
	}
	return nil
}

// Push puts the image into the registry behind transport, under the name.
// Blobs that are there already are not sent again.
func (a *Archive) Push(ctx context.Context, image string, transport http.RoundTripper) error {
	ref, err := name.NewDigest(resources.ImageReference(image, a.Digest()), name.Insecure)
	if err != nil {
		return fmt.Errorf("push image %s: %w", image, err)
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithTransport(plain{transport})}
	if a.index != nil {
		err = remote.WriteIndex(ref, a.index, options...)
	} else {
		err = remote.Write(ref, a.image, options...)
	}
	if err != nil {
		return fmt.Errorf("push image %s to the cluster's registry: %w", image, err)
	}
	return nil
}

// plain sends every request as http: what it travels in is encrypted already.
type plain struct{ transport http.RoundTripper }

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		return nil, errors.New("the cluster's registry speaks http, within skerry's own connection")
	}
	return p.transport.RoundTrip(r)
}
