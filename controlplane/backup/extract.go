package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// extractor makes the entries of an archive below a directory that no name and no
// link leads out of.
type extractor struct {
	root *os.Root
	// owner of all that is made, instead of who had it, and without what only root
	// may give it; nil for everything as it was.
	owner *Owner
	dirs  []*tar.Header // whose modes and times are set once they are filled
}

func (e *extractor) one(header *tar.Header, content io.Reader) error {
	name := header.Name
	switch header.Typeflag {
	case tar.TypeDir:
		if err := e.root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		e.dirs = append(e.dirs, header)
		return nil
	case tar.TypeLink:
		first, found := strings.CutPrefix(header.Linkname, dataEntry)
		if !found {
			return fmt.Errorf("%w: it is a link to %q", ErrBroken, header.Linkname)
		}
		return e.root.Link(path.Clean(first), name)
	case tar.TypeSymlink:
		if err := e.root.Symlink(header.Linkname, name); err != nil {
			return err
		}
		return e.own(header)
	case tar.TypeFifo:
		if err := e.fifo(name); err != nil {
			return err
		}
		return e.dress(header)
	case tar.TypeReg:
		if err := e.file(name, content); err != nil {
			return err
		}
		return e.dress(header)
	}
	return fmt.Errorf("%w: it is of the unknown kind %q", ErrBroken, header.Typeflag)
}

func (e *extractor) file(name string, content io.Reader) error {
	file, err := e.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

func (e *extractor) fifo(name string) error {
	dir, err := e.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // nothing was written to it
	return unix.Mknodat(int(dir.Fd()), path.Base(name), unix.S_IFIFO|0o600, 0)
}

// dress gives a file what it had beside its content. The owner comes first: it takes
// the mode's special bits and the capabilities away.
func (e *extractor) dress(header *tar.Header) error {
	name := header.Name
	if err := e.own(header); err != nil {
		return err
	}
	bits := fs.ModePerm
	if e.owner == nil {
		bits |= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	}
	if err := e.root.Chmod(name, header.FileInfo().Mode()&bits); err != nil {
		return err
	}
	if e.owner == nil {
		if err := e.attributes(header); err != nil {
			return err
		}
	}
	return e.root.Chtimes(name, header.ModTime, header.ModTime)
}

func (e *extractor) own(header *tar.Header) error {
	if e.owner != nil {
		return e.root.Lchown(header.Name, e.owner.UID, e.owner.GID)
	}
	return e.root.Lchown(header.Name, header.Uid, header.Gid)
}

func (e *extractor) attributes(header *tar.Header) error {
	for key, value := range header.PAXRecords {
		name, found := strings.CutPrefix(key, xattr)
		if !found || !kept(name) {
			continue
		}
		file, err := e.root.OpenFile(header.Name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		err = unix.Fsetxattr(int(file.Fd()), name, []byte(value), 0)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("set its attribute %s: %w", name, err)
		}
	}
	return nil
}

// finish dresses the directories, inner ones first, and waits until all is on the
// disk.
func (e *extractor) finish() error {
	for _, header := range slices.Backward(e.dirs) {
		if err := e.dress(header); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	dir, err := e.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was synced
	return unix.Syncfs(int(dir.Fd()))
}
