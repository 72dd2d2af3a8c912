package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/resources"
)

// Config is what Run needs.
type Config struct {
	// File is what the agent writes: a resources.NodeNetwork as JSON, which it
	// replaces as a whole.
	File string
	// Listen is where names are answered, and ResolvConf names the machine's name
	// servers.
	Listen     netip.AddrPort
	ResolvConf string
	Log        *slog.Logger
}

// Run answers names until ctx ends, and follows the file. Where it is not there,
// or can't be read, what was there before holds.
func Run(ctx context.Context, c Config) error {
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", c.File, err)
	}
	defer changes.Close() //nolint:errcheck // it was read
	if err := changes.Add(filepath.Dir(c.File)); err != nil {
		return fmt.Errorf("watch %s: %w", c.File, err)
	}
	s := &Server{Upstream: NewForwarder(c.ResolvConf), Log: c.Log}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Serve(ctx, c.Listen) })
	group.Go(func() error { return s.follow(ctx, c.File, changes) })
	return group.Wait()
}

func (s *Server) follow(ctx context.Context, file string, changes *fsnotify.Watcher) error {
	for {
		zone, err := read(file)
		switch {
		case err == nil:
			s.Put(zone)
		case !errors.Is(err, fs.ErrNotExist):
			s.Log.Error("names stay as they were", "err", err)
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case err := <-changes.Errors:
				return fmt.Errorf("watch %s: %w", file, err)
			case event := <-changes.Events:
				again = event.Name == file
			}
		}
	}
}

func read(file string) (*Zone, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the names: %w", err)
	}
	var n resources.NodeNetwork
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("read the names of %s: %w", file, err)
	}
	return NewZone(n), nil
}
