package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/backup"
	"github.com/skerry-io/skerry/resources"
)

// backUp sends an archive of a local volume's data.
func (a *Agent) backUp(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is being backed up", func(_ context.Context, v *volumes, name string, _ io.Reader, out io.Writer) error {
		about := backup.About{Volume: name, Node: a.name(), MadeAt: time.Now().UTC()}
		err := backup.Write(out, filepath.Join(v.dir, name, volumeData), &about)
		if about.Skipped > 0 {
			a.Log.Info("sockets are not in the backup of a volume", "volume", name, "sockets", about.Skipped)
		}
		return err
	})
}

// restore replaces the data of a local volume with that of an archive.
func (a *Agent) restore(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is being restored", func(_ context.Context, v *volumes, name string, in io.Reader, _ io.Writer) error {
		return v.replaceData(name, in)
	})
}

// transfer carries out a call that reads or writes the data of a volume.
func (a *Agent) transfer(w http.ResponseWriter, r *http.Request, why string, do func(ctx context.Context, v *volumes, name string, in io.Reader, out io.Writer) error) {
	how, err := api.HeaderValue[resources.VolumeTransfer](r, api.CommandHeader)
	v, name := a.loop.volumes, r.PathValue("name")
	if err == nil {
		err = v.has(name)
	}
	var session *api.Session
	if err == nil {
		session, err = api.Upgrade(w, r)
	}
	if err != nil {
		api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
		return
	}
	defer session.Close() //nolint:errcheck // the caller has what there was
	a.Log.Info("a volume "+why, "volume", name, "pause", how.Pause)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	in, sent := io.Pipe()
	go func() { cancel(receive(session, sent, nil)) }()
	defer in.Close() //nolint:errcheck // it ends whoever writes
	err = a.held(ctx, name, why, how.Pause, func() error {
		return do(ctx, v, name, in, session.Stream(api.FrameOutput))
	})
	result := api.Result{}
	if err != nil {
		a.Log.Warn("a volume was not transferred", "volume", name, "err", err)
		result.Error = err.Error()
	}
	session.SendJSON(api.FrameResult, result) //nolint:errcheck // the caller may have gone
}

// held calls do while no container uses the volume, where that is wanted.
func (a *Agent) held(ctx context.Context, volume, why string, pause bool, do func() error) error {
	if pause {
		release, err := a.loop.hold(ctx, volume, why)
		if err != nil {
			return err
		}
		defer release()
	}
	return do()
}

// has is an error unless the node has the data of a local volume, which is made
// where no replica has mounted it yet.
func (v *volumes) has(name string) error {
	if v == nil {
		return api.Errorf(http.StatusConflict, "this node has no volumes")
	}
	v.mu.Lock()
	a, found := v.assigned[name]
	v.mu.Unlock()
	if !found || !a.Volume.Local() || a.Remove {
		return api.Errorf(http.StatusConflict, "volume %s is not on this node", name)
	}
	v.making.Lock()
	defer v.making.Unlock()
	_, err := v.directory(a.Volume, "")
	return err
}

// restored is where the data of an archive grows until it takes the place of what
// was there.
const restored = "restored"

// replaceData replaces the data of a volume that no container uses, at once and
// only where the archive is whole.
func (v *volumes) replaceData(name string, archive io.Reader) error {
	dir := filepath.Join(v.dir, name)
	next := filepath.Join(dir, restored)
	if err := os.RemoveAll(next); err != nil {
		return fmt.Errorf("remove what an earlier restore has left: %w", err)
	}
	if _, err := backup.Extract(archive, next); err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	v.making.Lock()
	defer v.making.Unlock()
	if err := unmountSubpaths(dir); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, filepath.Join(dir, volumeData), unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("put the restored data in its place: %w", err)
	}
	return os.RemoveAll(next)
}
