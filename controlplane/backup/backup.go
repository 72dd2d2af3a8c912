// Package backup makes archives of directories, and directories of archives.
//
// An archive is a tar stream in zstd, which `tar --zstd` reads: first the entry
// about.json, then all of the directory below data/. A skippable frame of zstd
// ends it, with the SHA-256 of what comes before: an archive that was cut off or
// changed is known by it.
package backup

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// About is what an archive says of itself.
type About struct {
	Format  int       `json:"format"`
	Volume  string    `json:"volume"`
	Node    string    `json:"node,omitempty"` // that the data was on
	MadeAt  time.Time `json:"made_at"`
	Skipped int       `json:"-"` // sockets, which belong to who listened there
}

// format is the one version that there is.
const format = 1

const (
	aboutEntry = "about.json"
	dataEntry  = "data/"
	maxAbout   = 1 << 20
	xattr      = "SCHILY.xattr."
)

// Write writes an archive of the directory to w. Owners, modes, times, links and
// extended attributes are in it, holes of sparse files are not. A device is an
// error; a socket is left out, and counted in about.
func Write(w io.Writer, dir string, about *About) error {
	return write(w, dir, &writer{from: ".", as: ".", about: about})
}

// write writes what the archive is of, below a directory.
func write(w io.Writer, dir string, archive *writer) error {
	sealed := newSealer(w)
	compressed, err := zstd.NewWriter(sealed)
	if err != nil {
		return err
	}
	defer compressed.Close() //nolint:errcheck // where it counts, it was closed below
	archive.tar, archive.links = tar.NewWriter(compressed), map[inode]string{}
	about := archive.about
	about.Format = format
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	if err := archive.tar.WriteHeader(&tar.Header{Name: aboutEntry, Mode: 0o600, Size: int64(len(text)), ModTime: about.MadeAt}); err != nil {
		return err
	}
	if _, err := archive.tar.Write(text); err != nil {
		return err
	}
	if err := archive.all(dir); err != nil {
		return err
	}
	if err := errors.Join(archive.tar.Close(), compressed.Close()); err != nil {
		return err
	}
	return sealed.seal()
}

type inode struct{ device, number uint64 }

type writer struct {
	// from is what is archived, a path below the directory, and as its name in the
	// archive.
	from, as string
	about    *About

	tar   *tar.Writer
	links map[inode]string // the first name of files with several
}

// all writes what is in a directory, which no link leads out of.
func (w *writer) all(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // it was read
	return fs.WalkDir(root.FS(), w.from, func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = w.one(root, name)
		}
		if err != nil {
			return fmt.Errorf("archive %s: %w", name, err)
		}
		return nil
	})
}

func (w *writer) one(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSocket != 0:
		w.about.Skipped++
		return nil
	case info.Mode()&fs.ModeDevice != 0:
		return errors.New("is a device, which an archive of data does not hold; remove it")
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = root.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	as := path.Join(w.as, strings.TrimPrefix(strings.TrimPrefix(name, w.from), "/"))
	if w.from == "." {
		as = path.Join(w.as, name)
	}
	header.Name, header.Format, header.Uname, header.Gname = dataEntry+as, tar.FormatPAX, "", ""
	if as == "." {
		header.Name = dataEntry
	}
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if first, again := w.linked(info, as); again {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, dataEntry+first, 0
		return w.tar.WriteHeader(header)
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return w.tar.WriteHeader(header)
	}
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was read
	if header.PAXRecords, err = attributes(file); err != nil {
		return err
	}
	if err := w.tar.WriteHeader(header); err != nil || info.IsDir() {
		return err
	}
	// A file that grows meanwhile is archived as long as it was, and one that shrinks
	// ends in zeros: whoever wants more than that pauses the service.
	n, err := io.CopyN(w.tar, file, header.Size)
	if errors.Is(err, io.EOF) {
		_, err = io.CopyN(w.tar, zeros{}, header.Size-n)
	}
	return err
}

// linked gives the name by which the file is in the archive already.
func (w *writer) linked(info fs.FileInfo, name string) (first string, again bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || stat.Nlink < 2 {
		return "", false
	}
	id := inode{stat.Dev, stat.Ino}
	if first, again = w.links[id]; !again {
		w.links[id] = name
	}
	return first, again
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// attributes are the extended ones of a file, as records of PAX.
func attributes(file *os.File) (map[string]string, error) {
	fd := int(file.Fd())
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list its attributes: %w", err)
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if !kept(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, fmt.Errorf("read its attribute %s: %w", name, err)
		}
		records[xattr+name] = string(value[:n])
	}
	return records, nil
}

// kept is true for the attributes that are data: the others are the machine's.
func kept(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" || strings.HasPrefix(name, "system.posix_acl_")
}

// Check reads a whole archive, and gives what it is of. The error says where it is
// broken.
func Check(r io.Reader) (About, error) {
	return read(r, func(*tar.Header, io.Reader) error { return nil })
}

// Extract makes the directory of an archive: it must be empty, or not be there.
// Where the archive turns out to be broken, what was made of it is left to the
// caller, who must not use it.
func Extract(r io.Reader, dir string) (About, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return About{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return About{}, err
	}
	defer root.Close() //nolint:errcheck // its files were closed
	return ExtractTo(r, root)
}

// ExtractTo is Extract for a directory that is open, and empty.
func ExtractTo(r io.Reader, root *os.Root) (About, error) {
	e := &extractor{root: root}
	about, err := read(r, e.one)
	if err == nil {
		err = e.finish()
	}
	return about, err
}

// ErrBroken is an archive that was cut off or changed, or is none.
var ErrBroken = errors.New("the archive is broken")

// read hands the entries below data/ to one, and holds the archive against its sum.
func read(r io.Reader, one func(*tar.Header, io.Reader) error) (About, error) {
	var about About
	sealed := &unsealer{from: r}
	uncompressed, err := zstd.NewReader(sealed, zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return about, err
	}
	defer uncompressed.Close()
	archive := tar.NewReader(uncompressed)
	header, err := archive.Next()
	if err == nil && header.Name != aboutEntry {
		err = fmt.Errorf("its first entry is %q", header.Name)
	}
	if err == nil {
		err = json.NewDecoder(io.LimitReader(archive, maxAbout)).Decode(&about)
	}
	if err != nil {
		return about, fmt.Errorf("%w, or not one of a volume: %w", ErrBroken, err)
	}
	if about.Format != format {
		return about, fmt.Errorf("the archive has format %d, and this skerry reads %d: take the version that made it", about.Format, format)
	}
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return about, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		name, found := strings.CutPrefix(header.Name, dataEntry)
		if !found {
			return about, fmt.Errorf("%w: %q is not below %s", ErrBroken, header.Name, dataEntry)
		}
		header.Name = path.Clean(name)
		if err := one(header, archive); err != nil {
			return about, fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, uncompressed); err != nil {
		return about, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if !sealed.whole {
		return about, fmt.Errorf("%w: it has no sum", ErrBroken)
	}
	return about, nil
}
