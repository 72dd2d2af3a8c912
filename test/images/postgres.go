package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// PostgresData is where the postgres image keeps its data.
const PostgresData = "/var/lib/postgresql/data"

// PostgresArchive gives the path of a docker archive of PostgreSQL, as Debian
// packages it, with the program of the folder postgres as its first process. It is
// kept in the build directory, of which the caller gives the path, and is built
// again only when something of it has changed.
func PostgresArchive(t testing.TB, buildDir string) string {
	t.Helper()
	root := filepath.Join(buildDir, "test", "postgres.root.tar")
	made, err := os.ReadFile(root + ".key")
	if err != nil {
		t.Fatalf("PostgreSQL is missing: run make test-images: %v", err)
	}
	program, err := build("postgres", "1", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(made, program...))
	path, err := filepath.Abs(filepath.Join(buildDir, "test", "postgres-"+hex.EncodeToString(sum[:8])+".tar"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := writePostgres(path, root, program); err != nil {
		t.Fatalf("build the postgres image: %v", err)
	}
	return path
}

func writePostgres(path, root string, program []byte) error {
	image, err := postgres(root, program)
	if err != nil {
		return err
	}
	tag, err := name.NewTag("localhost/skerry-test/postgres:15")
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(path), "postgres-*.tar"))
	if err != nil {
		return err
	}
	unready := path + ".new"
	if err := tarball.WriteToFile(unready, tag, image); err != nil {
		return err
	}
	for _, other := range old {
		os.Remove(other) //nolint:errcheck // it is in the build directory
	}
	return os.Rename(unready, path)
}

func postgres(root string, program []byte) (v1.Image, error) {
	debian, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return withoutDevices(root) })
	if err != nil {
		return nil, err
	}
	own, err := layerOf(
		file{"start", 0o755, program},
		file{"etc/passwd", 0o644, []byte("root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n")},
		file{"etc/group", 0o644, []byte("root:x:0:\npostgres:x:999:\n")},
	)
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, debian, own)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: []string{"/start"}, WorkingDir: "/", StopSignal: "SIGINT",
		Env: []string{"PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "PGDATA=" + PostgresData},
	}
	return mutate.ConfigFile(image, config)
}

// withoutDevices reads a file system of Debian's, without what containers get of
// their own.
func withoutDevices(path string) (io.ReadCloser, error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close() //nolint:errcheck // it was read
	var to bytes.Buffer
	r, w := tar.NewReader(from), tar.NewWriter(&to)
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(header.Name, "./dev/") {
			continue
		}
		if header.Name == "./tmp/" {
			header.Mode = 0o1777
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		if _, err := io.Copy(w, r); err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return io.NopCloser(&to), w.Close()
}
