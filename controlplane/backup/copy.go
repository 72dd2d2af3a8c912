package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Owner is who gets what is copied; -1 is whoever copies.
type Owner struct{ UID, GID int }

// WritePath writes an archive of one file, link or directory below dir, which no
// link leads out of. It is called as in the archive.
func WritePath(w io.Writer, dir, from, as string, about *About) error {
	return write(w, dir, &writer{from: path.Clean(from), as: as, about: about})
}

// copying is where a copy grows until all of it is there.
const copying = ".skerry-copy"

// Place puts what WritePath has written at a path below root, as cp does: into a
// directory that is there, or else under the path's last name. Files that are there
// are replaced and directories filled, once all of the archive has been read.
// owner says whose it becomes, given the directory that it is put into.
func Place(r io.Reader, root *os.Root, to string, owner func(into fs.FileInfo) Owner) error {
	into, name, err := destination(root, to)
	if err != nil {
		return err
	}
	above, err := root.Stat(into)
	if err != nil {
		return err
	}
	if err := root.RemoveAll(copying); err != nil {
		return fmt.Errorf("remove what an earlier copy has left: %w", err)
	}
	if err := root.Mkdir(copying, 0o700); err != nil {
		return err
	}
	err = place(r, root, into, name, owner(above))
	return errors.Join(err, root.RemoveAll(copying))
}

func place(r io.Reader, root *os.Root, into, name string, owner Owner) error {
	stage, err := root.OpenRoot(copying)
	if err != nil {
		return err
	}
	defer stage.Close() //nolint:errcheck // its files were closed
	e := &extractor{root: stage, owner: &owner}
	if _, err := read(r, e.one); err != nil {
		return err
	}
	if err := e.finish(); err != nil {
		return err
	}
	dir, err := stage.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was read
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("%w: it has %d files where a copy has one", ErrBroken, len(entries))
	}
	if name == "" {
		name = entries[0].Name()
	}
	return merge(root, path.Join(copying, entries[0].Name()), path.Join(into, name))
}

// destination says into which directory a copy goes, and under which name; empty
// for its own.
func destination(root *os.Root, to string) (into, name string, err error) {
	clean := path.Clean(strings.TrimLeft(to, "/"))
	there, err := root.Stat(clean)
	switch {
	case err == nil && there.IsDir():
		return clean, "", nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	case strings.HasSuffix(to, "/"):
		return "", "", fmt.Errorf("%s is no directory", to)
	}
	return path.Dir(clean), path.Base(clean), nil
}

// merge moves what is at one path to another.
func merge(root *os.Root, from, to string) error {
	moved, err := root.Lstat(from)
	if err != nil {
		return err
	}
	there, err := root.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return root.Rename(from, to)
	case err != nil:
		return err
	case moved.IsDir() != there.IsDir():
		return fmt.Errorf("%s is there, and one of both is a directory: remove it first, or copy to another name", to)
	case !moved.IsDir():
		return root.Rename(from, to)
	}
	dir, err := root.Open(from)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // it was read
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if err == nil {
			err = merge(root, path.Join(from, name), path.Join(to, name))
		}
	}
	return err
}
