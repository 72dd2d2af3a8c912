package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/skerry-io/skerry/libvirtnodes"
	"github.com/skerry-io/skerry/test/libvirttest"
)

// The image that is uploaded: as large, and as empty, as that of an installed
// system. Its data lie in pieces.
const (
	imageSize   = 2 << 30
	imageData   = 400 << 20
	imagePiece  = 4 << 20
	uploadTurns = 5
)

// imageUpload measures libvirtnodes' upload of a raw image against
// `cp --sparse=auto` of the same file to the same directory. The file is in the
// page cache for both, and nothing is left to write to the disk when either
// begins; neither waits for its own data to reach it. The checksum that names a
// volume is taken before an upload, and is not in it.
func imageUpload(ctx context.Context, notes io.Writer) (c comparison, err error) {
	host, err := libvirttest.New(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = keep(err, host.Close()) }()
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return c, err
	}
	defer func() { err = keep(err, os.RemoveAll(dir)) }()
	image, err := writeImage(filepath.Join(dir, "image.raw"))
	if err != nil {
		return c, fmt.Errorf("write an image: %w", err)
	}
	defer image.Close() //nolint:errcheck // it was read
	hypervisors := libvirtnodes.New(slog.New(slog.DiscardHandler))
	defer hypervisors.Close()
	hypervisor, err := hypervisors.Host(host.URI)
	if err != nil {
		return c, err
	}
	upload := func() error { return hypervisor.Upload(host.Pool, "bench.img", image) }
	copied := filepath.Join(host.PoolDir, "bench.copy")
	cp := func() error {
		out, err := exec.CommandContext(ctx, "cp", "--sparse=auto", image.Name(), copied).CombinedOutput()
		if err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
		return nil
	}
	// The first turn warms up what both use, and does not count.
	for turn := range uploadTurns + 1 {
		against, err := settled(ctx, cp)
		if err != nil {
			return c, err
		}
		if err := os.Remove(copied); err != nil {
			return c, err
		}
		ours, err := settled(ctx, upload)
		if err != nil {
			return c, err
		}
		if _, err := host.Virsh(ctx, "vol-delete", "bench.img", host.Pool); err != nil {
			return c, err
		}
		if turn > 0 {
			c.add(ours, against)
			fmt.Fprintf(notes, "  %d: upload %.3f s, cp %.3f s\n", turn, ours.Seconds(), against.Seconds())
		}
	}
	return c, nil
}

// settled times f, with nothing left to write to the disk at its beginning.
func settled(ctx context.Context, f func() error) (time.Duration, error) {
	if out, err := exec.CommandContext(ctx, "sync").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sync: %w: %s", err, out)
	}
	begin := time.Now()
	err := f()
	return time.Since(begin), err
}

// writeImage writes a sparse file whose data no file system can shrink.
func writeImage(path string) (*os.File, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte{})
	piece := make([]byte, imagePiece)
	for i := range int64(imageData / imagePiece) {
		random.Read(piece) //nolint:errcheck // it never returns an error
		if _, err := file.WriteAt(piece, i*imageSize/(imageData/imagePiece)); err != nil {
			file.Close() //nolint:errcheck // the first error counts
			return nil, err
		}
	}
	return file, file.Truncate(imageSize)
}

// keep gives the first error.
func keep(err, later error) error {
	if err != nil {
		return err
	}
	return later
}
