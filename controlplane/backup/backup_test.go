package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/backup"
)

// looks tells all that a directory has, by name.
func looks(t *testing.T, dir string) map[string]any {
	t.Helper()
	type look struct {
		Mode           fs.FileMode
		UID, GID       uint32
		Links          uint64
		Time           time.Time
		Content, Extra string
	}
	all := map[string]any{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(name)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		l := look{Mode: info.Mode(), UID: stat.Uid, GID: stat.Gid}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			l.Content, _ = os.Readlink(name)
		case info.Mode().IsRegular():
			l.Links, l.Time = stat.Nlink, info.ModTime()
			content, _ := os.ReadFile(name)
			l.Content = string(content)
			value := make([]byte, 100)
			if n, err := unix.Getxattr(name, "user.tag", value); err == nil {
				l.Extra = string(value[:n])
			}
		case info.IsDir():
			l.Time = info.ModTime()
		}
		relative, _ := filepath.Rel(dir, name)
		all[relative] = l
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sample is a directory of everything that a volume may hold.
func sample(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "rows"), bytes.Repeat([]byte("row\n"), 100_000), 0o640))
	must(t, os.WriteFile(filepath.Join(dir, "deep", "er", "secret"), nil, 0o600))
	must(t, os.Link(filepath.Join(dir, "rows"), filepath.Join(dir, "same")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "out")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.Chmod(filepath.Join(dir, "deep"), 0o1770))
	if os.Geteuid() == 0 {
		must(t, os.Lchown(filepath.Join(dir, "out"), 70, 71))
		must(t, os.Chown(filepath.Join(dir, "rows"), 999, 998))
		must(t, os.Chown(dir, 999, 998))
	}
	if err := unix.Setxattr(filepath.Join(dir, "rows"), "user.tag", []byte("value"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	past := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "rows"), past, past))
	must(t, os.Chtimes(filepath.Join(dir, "deep"), past, past))
	return dir
}

func archived(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, backup.Write(&b, dir, &backup.About{Volume: "rows", MadeAt: time.Unix(1, 0).UTC()}))
	return b.Bytes()
}

func TestWhatIsArchivedComesBack(t *testing.T) {
	dir := sample(t)
	archive := archived(t, dir)
	about, err := backup.Check(bytes.NewReader(archive))
	if err != nil || about.Volume != "rows" {
		t.Fatal(about, err)
	}
	again := filepath.Join(t.TempDir(), "again")
	_, err = backup.Extract(bytes.NewReader(archive), again)
	must(t, err)
	if diff := cmp.Diff(looks(t, dir), looks(t, again)); diff != "" {
		t.Errorf("what comes back (-was +is):\n%s", diff)
	}
}

// Other tools read it, and the seal is none of theirs.
func TestAnArchiveIsTarInZstd(t *testing.T) {
	r, err := zstd.NewReader(bytes.NewReader(archived(t, sample(t))))
	must(t, err)
	defer r.Close()
	entries := 0
	for archive := tar.NewReader(r); ; entries++ {
		if _, err := archive.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if entries != 9 {
		t.Errorf("%d entries", entries)
	}
}

// Wherever an archive is cut or changed, it is refused.
func TestABrokenArchiveIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "row"), []byte("a row"), 0o600))
	archive := archived(t, dir)
	for at := range archive {
		if _, err := backup.Check(bytes.NewReader(archive[:at])); err == nil {
			t.Errorf("cut at %d of %d, it is taken", at, len(archive))
		}
		changed := bytes.Clone(archive)
		changed[at] ^= 0x10
		if _, err := backup.Check(bytes.NewReader(changed)); err == nil {
			t.Errorf("changed at %d of %d, it is taken", at, len(archive))
		}
	}
	if _, err := backup.Check(bytes.NewReader(append(archive, 0))); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("with more behind it: %v", err)
	}
}

func TestADeviceIsNoData(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("this user makes no devices: %v", err)
	}
	if err := backup.Write(io.Discard, dir, &backup.About{}); err == nil || !strings.Contains(err.Error(), "archive null: is a device") {
		t.Error(err)
	}
}

// Nothing that an archive says leads out of the directory, and nothing that is no
// archive is more than an error.
func FuzzExtract(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "row"), []byte("a row"), 0o600); err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := backup.Write(&b, dir, &backup.About{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("(\xb5/\xfd"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		outer := t.TempDir()
		backup.Extract(bytes.NewReader(archive), filepath.Join(outer, "in")) //nolint:errcheck // it may be anything
		if entries, err := os.ReadDir(outer); err != nil || len(entries) > 1 {
			t.Errorf("beside the directory: %v %v", entries, err)
		}
	})
}

// escapes are archives that a hostile hand made, with a sum that fits.
func TestAnArchiveDoesNotLeadOut(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []tar.Header
	}{
		{"a name", []tar.Header{{Name: "data/../../out", Typeflag: tar.TypeReg}}},
		{"a link", []tar.Header{{Name: "data/l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "data/l/out", Typeflag: tar.TypeReg}}},
		{"a hard link", []tar.Header{{Name: "data/l", Typeflag: tar.TypeLink, Linkname: "data/../../victim"}}},
		{"another place", []tar.Header{{Name: "out", Typeflag: tar.TypeReg}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			outer := t.TempDir()
			must(t, os.WriteFile(filepath.Join(outer, "victim"), nil, 0o600))
			var b bytes.Buffer
			must(t, backup.Seal(&b, func(w io.Writer) error {
				z, err := zstd.NewWriter(w)
				must(t, err)
				archive := tar.NewWriter(z)
				text := `{"format":1}`
				must(t, archive.WriteHeader(&tar.Header{Name: "about.json", Size: int64(len(text))}))
				_, err = archive.Write([]byte(text))
				must(t, err)
				for _, header := range c.entries {
					must(t, archive.WriteHeader(&header))
				}
				return errors.Join(archive.Close(), z.Close())
			}))
			if _, err := backup.Extract(&b, filepath.Join(outer, "in", "dir")); err == nil {
				t.Error("it is taken")
			}
			if entries, _ := os.ReadDir(outer); len(entries) != 2 {
				t.Errorf("beside the directory: %v", entries)
			}
		})
	}
}
