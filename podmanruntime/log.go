package podmanruntime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/containers/podman/v4/libpod/define"

	"github.com/skerry-io/skerry/resources"
)

// The log of a container is one file. conmon writes it, and begins it anew,
// empty, when what it has written would exceed the size in the spec: seen with
// conmon 2.1.6, where 35,000 lines (5 MB) into a log of 1 MB leave the last 647.
// But conmon counts what this run wrote, not what is in the file already: a
// container that is started again and again, each time writing a little less
// than its size, fills the disk. So a log that may take `most` bytes has the
// size most - kept in the spec, and is cut to its last `kept` bytes before each
// start (resources.Template.LogBound).

// logFile is the log of a container that doesn't run.
type logFile struct {
	path string
	kept int64
}

// noteLog remembers the log of a container that has ended, so that its next
// start need not ask Podman for it.
func (r *Runtime) noteLog(container *define.InspectContainerData) {
	if container.HostConfig == nil || container.HostConfig.LogConfig == nil || container.Config == nil {
		return
	}
	log := logFile{path: container.HostConfig.LogConfig.Path, kept: int64(resources.DefaultLogSize)}
	// A container of an earlier version has no such label.
	if kept, err := strconv.ParseInt(container.Config.Labels[labelLogKept], 10, 64); err == nil {
		log.kept = kept
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs[container.ID] = log
}

// cutLog cuts the log of a container that ended, before it is started again.
func (r *Runtime) cutLog(id string) error {
	r.mu.Lock()
	log := r.logs[id]
	delete(r.logs, id)
	r.mu.Unlock()
	if log.path == "" {
		return nil
	}
	if err := log.cut(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cut the log of container %s: %w", short(id), err)
	}
	return nil
}

// cut keeps the whole lines among the last bytes of the log. Where the disk has
// no room for the copy, the log begins anew: a start is worth more.
func (l logFile) cut() error {
	info, err := os.Stat(l.path)
	if err != nil || info.Size() <= l.kept {
		return err
	}
	if err := l.replace(info.Mode().Perm()); err != nil {
		return os.Truncate(l.path, 0)
	}
	return nil
}

func (l logFile) replace(mode fs.FileMode) error {
	old, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer old.Close() //nolint:errcheck // it was read
	// From one byte earlier on, so that a line that begins right there is whole.
	if _, err := old.Seek(-l.kept-1, io.SeekEnd); err != nil {
		return err
	}
	tail := bufio.NewReader(old)
	for err = bufio.ErrBufferFull; errors.Is(err, bufio.ErrBufferFull); {
		_, err = tail.ReadSlice('\n')
	}
	cut, err := os.OpenFile(l.path+".cut", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer os.Remove(cut.Name()) //nolint:errcheck // it has its name by now
	_, err = io.Copy(cut, tail)
	if closed := cut.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(cut.Name(), l.path)
}
