package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/backup"
	"github.com/skerry-io/skerry/controlplane/client"
)

func volumeCopyCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "cp SOURCE TARGET", Short: "Copy a file or directory from a volume, or to it", Args: cobra.ExactArgs(2),
		Long: "Copy a file or directory from a volume, or to it. One of SOURCE and TARGET is VOLUME:PATH, and the other a path here;\n" +
			"where that has a colon, write ./ before it. A target that is a directory gets the copy into it, and files that are there\n" +
			"are replaced, once all of the copy is there. It belongs to whom its new directory belongs, or to you. Links are copied as links.\n" +
			"Replicas that mount the volume go on; --pause stops them meanwhile.",
		Example: "  skerry volume cp rows:pg_hba.conf .\n  skerry volume cp ./seed rows:/import",
	}
	r := reachFlags(c, logger)
	pause := c.Flags().Bool("pause", false, "stop the replicas that mount the volume meanwhile")
	c.RunE = func(c *cobra.Command, args []string) error {
		source, target := parsePlace(args[0]), parsePlace(args[1])
		if (source.volume == "") == (target.volume == "") {
			return errors.New("one of the two is VOLUME:PATH, and the other a path here")
		}
		return r.with(func(control *client.Server) error {
			if source.volume != "" {
				return copyFrom(c, control, source, target.path, *pause)
			}
			return copyTo(c, control, source.path, target, *pause)
		})
	}
	return c
}

// place is a path here, or in a volume.
type place struct{ volume, path string }

// parsePlace reads VOLUME:PATH; whatever has a slash before its first colon is a
// path here.
func parsePlace(text string) place {
	volume, path, found := strings.Cut(text, ":")
	if !found || volume == "" || strings.Contains(volume, "/") {
		return place{path: text}
	}
	return place{volume: volume, path: path}
}

func copyFrom(c *cobra.Command, control *client.Server, source place, target string, pause bool) error {
	// What is there is a directory to copy into, or else the one above has to be.
	dir, name := target, "."
	if there, err := os.Stat(target); err != nil || !there.IsDir() {
		dir, name = filepath.Dir(target), filepath.Base(target)
		if strings.HasSuffix(target, "/") {
			name += "/"
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // its files were closed
	p := &progress{}
	err = p.during(c, func() error {
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		out, in := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			err := control.CopyFromVolume(ctx, source.volume, source.path, pause, io.MultiWriter(in, p))
			in.CloseWithError(err)
			sent <- err
		}()
		err := backup.Place(out, root, name, func(fs.FileInfo) backup.Owner { return backup.Owner{UID: -1, GID: -1} })
		if err == nil {
			return <-sent
		}
		out.CloseWithError(err)
		cancel()
		// Whatever broke the copy there is what is wrong with it here.
		if failed := <-sent; failed != nil && errors.Is(err, backup.ErrBroken) {
			return failed
		}
		return err
	})
	if err == nil {
		c.Printf("%s:%s is in %s\n", source.volume, source.path, target)
	}
	return err
}

func copyTo(c *cobra.Command, control *client.Server, source string, target place, pause bool) error {
	path, err := filepath.Abs(source)
	if err == nil {
		_, err = os.Lstat(path)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	p := &progress{}
	err = p.during(c, func() error {
		out, in := io.Pipe()
		defer out.Close() //nolint:errcheck // it ends whoever writes
		go func() {
			err := backup.WritePath(io.MultiWriter(in, p), filepath.Dir(path), filepath.Base(path), filepath.Base(path), &backup.About{})
			in.CloseWithError(err)
		}()
		return control.CopyToVolume(c.Context(), target.volume, target.path, pause, out)
	})
	if err == nil {
		c.Printf("%s is in %s:%s\n", source, target.volume, target.path)
	}
	return err
}
