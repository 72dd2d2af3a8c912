// Package images builds the container images of the tests and the demo: no registry,
// no Podman, no base image.
//
// The image web is the static program of that folder, on an otherwise empty file
// system, as /web. Its entrypoint is that program and its command is empty. The
// image postgres is PostgreSQL, from Debian's packages; see postgres.go.
package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Reference is the name of the image inside an archive, for the version
// given: what `podman load` calls it.
func Reference(version string) string { return "localhost/skerry-test/web:" + version }

// Archive builds version 1 of the web image for the test, and gives the path of
// its docker archive. It is gone after the test.
func Archive(t testing.TB) string {
	t.Helper()
	return ArchiveVersion(t, "1")
}

// ArchiveVersion is Archive for any version: another version is another image,
// with another digest, that says so.
func ArchiveVersion(t testing.TB, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web-"+version+".tar")
	if err := Write(path, version, runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	return path
}

// Write builds the web image for linux on arch (`amd64`, `arm64`), and writes
// it to path as a docker archive (what `podman save` writes). The same source,
// toolchain and version give the same bytes.
func Write(path, version, arch string) error {
	image, err := Web(version, arch)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(Reference(version))
	if err != nil {
		return fmt.Errorf("name the image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("write archive %s: %w", path, err)
	}
	return nil
}

// Web builds the web image for linux on arch.
func Web(version, arch string) (v1.Image, error) {
	program, err := build("web", version, arch)
	if err != nil {
		return nil, err
	}
	layer, err := layerOf(file{"web", 0o755, program})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("add the layer: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{
		Entrypoint: []string{"/web"}, WorkingDir: "/", Env: []string{"PATH=/"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
	}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, fmt.Errorf("configure the image: %w", err)
	}
	return image, nil
}

// build compiles a program of a folder here and gives its bytes.
func build(name, version, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "skerry-image-")
	if err != nil {
		return nil, fmt.Errorf("build the %s program: %w", name, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, name)
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X main.version="+version,
		"-o", path, "github.com/skerry-io/skerry/test/images/"+name)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the %s program: %w\n%s", name, err, output)
	}
	return os.ReadFile(path)
}

type file struct {
	name    string
	mode    int64
	content []byte
}

// layerOf gives a file system that has nothing but these files.
func layerOf(files ...file) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	var err error
	for _, f := range files {
		err = errors.Join(err,
			w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}),
			second(w.Write(f.content)))
	}
	err = errors.Join(err, w.Close())
	if err != nil {
		return nil, fmt.Errorf("pack the layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil
	})
}

func second(_ int, err error) error { return err }
