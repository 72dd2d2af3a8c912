package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/controlplane/backup"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

func volumeCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "Look after volumes and their data"}
	c.AddCommand(volumeListCommand(logger), volumeBackupCommand(logger), volumeRestoreCommand(logger), volumeCopyCommand(logger))
	return c
}

func volumeListCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("ls", "List the volumes", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.VolumeStatus, error) {
			return control.Volumes(c.Context())
		}, printVolumes)
}

func printVolumes(out io.Writer, volumes []resources.VolumeStatus) {
	table(out, "VOLUME DRIVER SIZE ACCESS NODE RETAINED SERVICES REPLICAS", func(row func(...any)) {
		for _, v := range volumes {
			node := v.NodeName
			switch {
			case v.Deleting:
				node += " (being removed)"
			case node == "" && v.Volume.Local():
				node = "none yet"
			}
			size := "-"
			if v.Volume.Size > 0 {
				size = v.Volume.Size.String()
			}
			row(v.Volume.Name, v.Volume.Driver, size, v.Volume.Access, node, v.Volume.RetainOnDestroy, strings.Join(v.Services, ","), len(v.Replicas))
		}
	})
}

func volumeBackupCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "backup VOLUME FILE", Short: "Write the data of a volume into a file", Args: cobra.ExactArgs(2),
		Long: "Write the data of a volume into a file, or to standard output where that is `-`: a tar archive in zstd, with a sum.\n" +
			"The data of a volume that is not local is reached through a node with a replica that mounts it.\n" +
			"Replicas that mount the volume go on, and what they write meanwhile may be in it or not; --pause stops them meanwhile.",
	}
	r := reachFlags(c, logger)
	pause := c.Flags().Bool("pause", false, "stop the replicas that mount the volume meanwhile")
	c.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			if args[1] == "-" {
				return control.BackUpVolume(c.Context(), args[0], *pause, c.OutOrStdout())
			}
			return backUp(c, control, args[0], args[1], *pause)
		})
	}
	return c
}

// backUp writes a file that is whole once it is there.
func backUp(c *cobra.Command, control *client.Server, volume, path string, pause bool) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it has its own name by then, if all went well
	defer file.Close()           //nolint:errcheck // where it counts, it was closed below
	p := &progress{}
	err = p.during(c, func() error { return control.BackUpVolume(c.Context(), volume, pause, io.MultiWriter(file, p)) })
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	if _, err := backup.Check(file); err != nil {
		return fmt.Errorf("check the backup: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	c.Printf("volume %s is in %s: %s\n", volume, path, short(p.bytes()))
	return nil
}

func volumeRestoreCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "restore VOLUME FILE", Short: "Replace the data of a volume with that of a backup", Args: cobra.ExactArgs(2),
		Long: "Replace the data of a volume with that of a backup. The replicas that mount it are stopped meanwhile.\n" +
			"A file that is broken is refused before anything is touched, and what was in the volume goes only once all of the backup is there.",
	}
	r := reachFlags(c, logger)
	c.RunE = func(c *cobra.Command, args []string) error {
		file, err := os.Open(args[1])
		if err != nil {
			return fmt.Errorf("read the backup: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was read
		about, err := backup.Check(file)
		if err != nil {
			return fmt.Errorf("read the backup %s: %w", args[1], err)
		}
		total, err := file.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
		if err != nil {
			return fmt.Errorf("read the backup %s: %w", args[1], err)
		}
		return r.with(func(control *client.Server) error {
			p := &progress{total: resources.Bytes(total)}
			err := p.during(c, func() error { return control.RestoreVolume(c.Context(), args[0], io.TeeReader(file, p)) })
			if err == nil {
				c.Printf("volume %s has the data of %s from %s again\n", args[0], about.Volume, about.MadeAt.Format(time.RFC3339))
			}
			return err
		})
	}
	return c
}

// progress counts what is written to it, and tells a person how far it is.
type progress struct {
	count atomic.Int64
	total resources.Bytes // zero where nobody knows it
}

func (p *progress) Write(text []byte) (int, error) {
	p.count.Add(int64(len(text)))
	return len(text), nil
}

func (p *progress) bytes() resources.Bytes { return resources.Bytes(p.count.Load()) }

func (p *progress) String() string {
	if p.total > 0 {
		return fmt.Sprintf("%s of %s, %d%%", short(p.bytes()), short(p.total), p.bytes()*100/p.total)
	}
	return short(p.bytes())
}

// during calls do, and says each second how much has gone where a person looks on.
func (p *progress) during(c *cobra.Command, do func() error) error {
	out, isFile := c.ErrOrStderr().(*os.File)
	if !isFile || !term.IsTerminal(int(out.Fd())) {
		return do()
	}
	ctx, done := context.WithCancel(c.Context())
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				fmt.Fprint(out, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(out, "\r%s\x1b[K", p)
			}
		}
	}()
	err := do()
	done()
	<-told
	return err
}
