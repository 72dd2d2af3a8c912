package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/backup"
	"github.com/skerry-io/skerry/controlplane/imagefs"
	"github.com/skerry-io/skerry/resources"
)

// transfer is a call that reads or writes the data of a volume.
type transfer struct {
	volumes *volumes
	// volume is what the call is about, and dir where its data is.
	volume resources.Volume
	dir    string
	how    resources.VolumeTransfer
	in     io.Reader
	out    io.Writer
}

// backUp sends an archive of a volume's data.
func (a *Agent) backUp(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is being backed up", func(t *transfer) error {
		about := a.about(t)
		err := backup.Write(t.out, t.dir, &about)
		if about.Skipped > 0 {
			a.Log.Info("sockets are not in the backup of a volume", "volume", t.volume.Name, "sockets", about.Skipped)
		}
		return err
	})
}

func (a *Agent) about(t *transfer) backup.About {
	return backup.About{Volume: t.volume.Name, Node: a.name(), MadeAt: time.Now().UTC()}
}

// restore replaces the data of a volume with that of an archive.
func (a *Agent) restore(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is being restored", func(t *transfer) error {
		if t.volume.Local() {
			return t.volumes.replaceData(t.volume, t.in)
		}
		return replaceContent(t.dir, t.in)
	})
}

// copyFrom sends an archive of one file or directory of a volume.
func (a *Agent) copyFrom(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is copied from", func(t *transfer) error {
		from := path.Clean(strings.TrimLeft(t.how.Path, "/"))
		as := path.Base(from)
		if from == "." {
			as = t.volume.Name
		}
		about := a.about(t)
		return backup.WritePath(t.out, t.dir, from, as, &about)
	})
}

// copyTo puts what such an archive holds into a volume. It belongs to whom the
// directory belongs that it is put into.
func (a *Agent) copyTo(w http.ResponseWriter, r *http.Request) {
	a.transfer(w, r, "is copied to", func(t *transfer) error {
		root, err := os.OpenRoot(t.dir)
		if err != nil {
			return err
		}
		defer root.Close() //nolint:errcheck // its files were closed
		return backup.Place(t.in, root, t.how.Path, func(into fs.FileInfo) backup.Owner {
			stat, _ := into.Sys().(*syscall.Stat_t)
			return backup.Owner{UID: int(stat.Uid), GID: int(stat.Gid)}
		})
	})
}

// transfer carries out a call that reads or writes the data of a volume.
func (a *Agent) transfer(w http.ResponseWriter, r *http.Request, why string, do func(*transfer) error) {
	how, err := api.HeaderValue[resources.VolumeTransfer](r, api.CommandHeader)
	t := &transfer{volumes: a.loop.volumes, how: how}
	if err == nil {
		t.volume, err = t.volumes.has(r.PathValue("name"))
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
	a.Log.Info("a volume "+why, "volume", t.volume.Name, "pause", how.Pause)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	in, sent := io.Pipe()
	go func() { cancel(receive(session, sent, nil)) }()
	defer in.Close() //nolint:errcheck // it ends whoever writes
	t.in, t.out = in, session.Stream(api.FrameOutput)
	err = a.held(ctx, t.volume.Name, why, how.Pause, func() error { return t.reach(ctx, do) })
	result := api.Result{}
	if err != nil {
		a.Log.Warn("a volume was not transferred", "volume", t.volume.Name, "err", err)
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

// reach calls do while the data of the volume is in a directory of the node.
func (t *transfer) reach(ctx context.Context, do func(*transfer) error) error {
	v := t.volumes
	if t.volume.Local() {
		v.making.Lock()
		dir, err := v.directory(t.volume, "")
		v.making.Unlock()
		if err != nil {
			return err
		}
		t.dir = dir
		return do(t)
	}
	r, found := v.mounting(t.volume.Name)
	if !found {
		return fmt.Errorf("no replica on this node mounts volume %s any more", t.volume.Name)
	}
	made, err := v.runtimeVolume(ctx, t.volume, resources.Mount{Volume: t.volume.Name})
	if err != nil {
		return err
	}
	dir, release, err := v.runtime.MountVolume(ctx, made, r)
	if err != nil {
		return err
	}
	t.dir = dir
	return errors.Join(do(t), release(context.WithoutCancel(ctx)))
}

// has gives a volume that the node has the data of, or that its replicas mount.
func (v *volumes) has(name string) (resources.Volume, error) {
	if v == nil {
		return resources.Volume{}, api.Errorf(http.StatusConflict, "this node has no volumes")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	a, found := v.assigned[name]
	if !found || a.Remove {
		return a.Volume, api.Errorf(http.StatusConflict, "volume %s is not on this node", name)
	}
	return a.Volume, nil
}

// mounting gives a replica of the node that mounts the volume.
func (v *volumes) mounting(name string) (resources.Replica, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, found := v.mounted[name]
	return r, found
}

// restored is where the data of an archive grows until it takes the place of what
// was there, and restoredDisk the disk that it is on, where the volume has one.
const (
	restored     = "restored"
	restoredDisk = "restored.ext4"
)

// replaceData replaces the data of a local volume that no container uses, at once
// and only where the archive is whole.
func (v *volumes) replaceData(volume resources.Volume, archive io.Reader) error {
	dir := filepath.Join(v.dir, volume.Name)
	next, err := v.prepareNext(dir, volume)
	if err == nil {
		_, err = backup.Extract(archive, next)
	}
	if err != nil {
		return errors.Join(err, removeNext(dir))
	}
	v.making.Lock()
	defer v.making.Unlock()
	if err := unmountSubpaths(dir); err != nil {
		return err
	}
	from, to := next, dataIn(dir, volume)
	if volume.Size > 0 {
		from, to = filepath.Join(dir, restoredDisk), filepath.Join(dir, volumeDisk)
		if err := errors.Join(imagefs.Unmount(filepath.Join(dir, restored)), imagefs.Unmount(filepath.Join(dir, volumeMount))); err != nil {
			return err
		}
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("put the restored data in its place: %w", err)
	}
	if err := removeNext(dir); err != nil {
		return err
	}
	_, err = v.directory(volume, "")
	return err
}

// prepareNext gives an empty place for an archive: on a disk of its own, where the
// volume has one.
func (v *volumes) prepareNext(dir string, volume resources.Volume) (string, error) {
	if err := removeNext(dir); err != nil {
		return "", err
	}
	next := filepath.Join(dir, restored)
	if volume.Size == 0 {
		return next, nil
	}
	if err := imagefs.Mount(filepath.Join(dir, restoredDisk), next, volume.Size); err != nil {
		return "", fmt.Errorf("restore beside what is there: %w", err)
	}
	return filepath.Join(next, volumeData), nil
}

// removeNext removes what a restore has left, be it the data from before.
func removeNext(dir string) error {
	err := imagefs.Unmount(filepath.Join(dir, restored))
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(dir, restored)), os.RemoveAll(filepath.Join(dir, restoredDisk)))
}

// Where a restore puts things in a volume that is no directory of its own: what the
// archive holds, and what was there before.
const (
	contentNext   = ".skerry-restored"
	contentBefore = ".skerry-replaced"
)

// replaceContent replaces what is in a directory that can't be exchanged itself, a
// file at a time, once all of the archive is there. What goes wrong then is undone.
// Others may write there meanwhile: no link of theirs leads out.
func replaceContent(dir string, archive io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // its files were closed
	if err := root.RemoveAll(contentNext); err != nil {
		return fmt.Errorf("remove what an earlier restore has left: %w", err)
	}
	if err := extractNext(root, archive); err != nil {
		return errors.Join(err, root.RemoveAll(contentNext))
	}
	if err := root.RemoveAll(contentBefore); err != nil {
		return err
	}
	if err := root.Mkdir(contentBefore, 0o700); err != nil {
		return err
	}
	if err := moveAll(root, ".", contentBefore); err != nil {
		return errors.Join(err, moveAll(root, contentBefore, "."), root.RemoveAll(contentNext))
	}
	if err := moveAll(root, contentNext, "."); err != nil {
		return errors.Join(err, moveAll(root, ".", contentNext), moveAll(root, contentBefore, "."))
	}
	// The directory becomes what it was, too.
	whose, err := root.Stat(contentNext)
	if err == nil {
		stat, _ := whose.Sys().(*syscall.Stat_t)
		err = errors.Join(root.Lchown(".", int(stat.Uid), int(stat.Gid)), root.Chmod(".", whose.Mode()&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky)))
	}
	return errors.Join(err, root.RemoveAll(contentNext), root.RemoveAll(contentBefore))
}

func extractNext(root *os.Root, archive io.Reader) error {
	if err := root.Mkdir(contentNext, 0o700); err != nil {
		return err
	}
	next, err := root.OpenRoot(contentNext)
	if err != nil {
		return err
	}
	defer next.Close() //nolint:errcheck // its files were closed
	_, err = backup.ExtractTo(archive, next)
	return err
}

// moveAll moves what is in one directory into another.
func moveAll(root *os.Root, from, to string) error {
	dir, err := root.Open(from)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was read
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if err == nil && name != contentNext && name != contentBefore {
			err = root.Rename(path.Join(from, name), path.Join(to, name))
		}
	}
	return err
}
