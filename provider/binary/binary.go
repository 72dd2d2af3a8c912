// Package binary carries the skerry program inside the plugins, so that a new
// node needs nothing from the network to become one: the plugin puts the
// program on the node's seed disk. `make build` writes the compressed programs
// beside this file before it builds the plugins.
package binary

import (
	"bytes"
	"embed"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

//go:embed all:programs
var programs embed.FS

// For returns the Linux program for the architecture, a GOARCH, or an error
// where this plugin was built without it.
func For(arch string) ([]byte, error) {
	compressed, err := programs.ReadFile("programs/skerry_linux_" + arch + ".zst")
	if err != nil {
		return nil, fmt.Errorf("this build of the plugin carries no skerry program for %s: build it with `make build ARCHS=%s`", arch, arch)
	}
	reader, err := zstd.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("unpack the skerry program for %s: %w", arch, err)
	}
	defer reader.Close()
	program, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("unpack the skerry program for %s: %w", arch, err)
	}
	return program, nil
}
