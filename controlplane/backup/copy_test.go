package backup_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/controlplane/backup"
)

func own(fs.FileInfo) backup.Owner { return backup.Owner{-1, -1} }

// tree makes files by their paths; those that end in / are directories.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(at, 0o755))
			continue
		}
		must(t, os.WriteFile(at, []byte(text), 0o640))
	}
	return dir
}

func sent(t *testing.T, dir, from, as string) *bytes.Buffer {
	t.Helper()
	var archive bytes.Buffer
	must(t, backup.WritePath(&archive, dir, from, as, &backup.About{}))
	return &archive
}

func TestACopyGoesWhereCpPutsIt(t *testing.T) {
	source := tree(t, map[string]string{"one": "1", "dir/a": "a", "dir/sub/b": "b"})
	for name, c := range map[string]struct {
		from, as, to string
		there        map[string]string
		want         map[string]string
		refused      string
	}{
		"a file, to a new name":       {"one", "one", "two", nil, map[string]string{"two": "1"}, ""},
		"a file, over another":        {"one", "one", "two", map[string]string{"two": "old"}, map[string]string{"two": "1"}, ""},
		"a file, into a directory":    {"one", "one", "sub", map[string]string{"sub/": ""}, map[string]string{"sub/one": "1"}, ""},
		"a file, to the top":          {"one", "one", "/", nil, map[string]string{"one": "1"}, ""},
		"a directory, to a new name":  {"dir", "dir", "new", nil, map[string]string{"new/a": "a", "new/sub/b": "b"}, ""},
		"a directory, into another":   {"dir", "dir", "new", map[string]string{"new/": ""}, map[string]string{"new/dir/a": "a", "new/dir/sub/b": "b"}, ""},
		"a directory, where it was":   {"dir", "dir", ".", map[string]string{"dir/a": "old", "dir/c": "c"}, map[string]string{"dir/a": "a", "dir/c": "c", "dir/sub/b": "b"}, ""},
		"everything, under a name":    {".", "data", "new", nil, map[string]string{"new/one": "1", "new/dir/a": "a"}, ""},
		"a directory, over a file":    {"dir", "dir", "new", map[string]string{"new": "old"}, map[string]string{"new": "old"}, "one of both is a directory"},
		"into what is no directory":   {"one", "one", "new/", nil, nil, "new/ is no directory"},
		"below what is not there":     {"one", "one", "new/sub", nil, nil, "no such file"},
		"out of where it may be":      {"one", "one", "../two", nil, nil, "escapes"},
		"what is not there":           {"none", "none", "two", nil, nil, "no such file"},
		"what is not where it may be": {"../one", "one", "two", nil, nil, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.there)
			root, err := os.OpenRoot(dir)
			must(t, err)
			defer root.Close() //nolint:errcheck // it is the test's
			var archive bytes.Buffer
			err = backup.WritePath(&archive, source, c.from, c.as, &backup.About{})
			if err == nil {
				err = backup.Place(&archive, root, c.to, own)
			}
			if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("it says %v, want %q", err, c.refused)
			}
			for name, text := range c.want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != text {
					t.Errorf("%s is %q, want %q: %v", name, got, text, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, ".skerry-copy")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what was copied half is left: %v", err)
			}
		})
	}
}

// A copy that breaks off changes nothing.
func TestABrokenCopyIsRefused(t *testing.T) {
	source, dir := tree(t, map[string]string{"one": "1"}), tree(t, map[string]string{"one": "old"})
	archive := sent(t, source, "one", "one")
	archive.Truncate(archive.Len() - 1)
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close() //nolint:errcheck // it is the test's
	if err := backup.Place(archive, root, "one", own); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("a broken copy: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "one")); string(text) != "old" {
		t.Errorf("the file is %q: %v", text, err)
	}
}

// A link that leads out of the directory takes nothing with it, neither way.
func TestACopyFollowsNoLinkOut(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "s"})
	dir := tree(t, nil)
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	if err := backup.WritePath(&bytes.Buffer{}, dir, "link/secret", "secret", &backup.About{}); err == nil {
		t.Error("a file was read through a link that leads out")
	}
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close() //nolint:errcheck // it is the test's
	if err := backup.Place(sent(t, outside, "secret", "new"), root, "link", own); err == nil {
		t.Error("a file was written through a link that leads out")
	}
}
