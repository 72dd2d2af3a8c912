package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// The library lists its directory by walks that end early, and without an error,
// where something is absent. A collection must not take half a list for the whole,
// so this reads the directory itself. Its form is that of the library's
// registry/storage/paths.go, which is as old as the registry's API:
//
//	repositories/NAME/_manifests/revisions/sha256/HEX/link
//	repositories/NAME/_layers/sha256/HEX/link
//	repositories/NAME/_uploads/UUID/...
//	blobs/sha256/HE/HEX/data
const treeRoot = "docker/registry/v2"

// tree is the directory of a registry. Nothing but collections remove manifests,
// links and blobs, so what is absent while one runs has not been there.
type tree string

func (t tree) repository(name string) string {
	return filepath.Join(string(t), treeRoot, "repositories", name)
}

// repositories are the names of all, also of those that have had uploads only.
func (t tree) repositories() ([]string, error) {
	root := t.repository("")
	seen := map[string]bool{}
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == root:
			return nil
		case err != nil:
			return err
		case !e.IsDir() || !strings.HasPrefix(e.Name(), "_"):
			return nil
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		return fs.SkipDir
	})
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return names, nil
}

// manifests are those of a repository.
func (t tree) manifests(name string) ([]digest.Digest, error) {
	return digestsIn(filepath.Join(t.repository(name), "_manifests/revisions"), "link")
}

// links are the blobs that a repository has.
func (t tree) links(name string) ([]digest.Digest, error) {
	return digestsIn(filepath.Join(t.repository(name), "_layers"), "link")
}

// uploads are the directories of a repository's unfinished uploads.
func (t tree) uploads(name string) ([]string, error) {
	return children(filepath.Join(t.repository(name), "_uploads"))
}

// blobs are those of all repositories.
func (t tree) blobs() ([]digest.Digest, error) {
	algorithms, err := children(filepath.Join(string(t), treeRoot, "blobs"))
	if err != nil {
		return nil, err
	}
	var found []digest.Digest
	for _, algorithm := range algorithms {
		prefixes, err := children(algorithm)
		if err != nil {
			return nil, err
		}
		for _, prefix := range prefixes {
			some, err := encoded(filepath.Base(algorithm), prefix, "data")
			if err != nil {
				return nil, err
			}
			found = append(found, some...)
		}
	}
	return found, nil
}

// digestsIn are the digests ALGORITHM:HEX of dir/ALGORITHM/HEX/file.
func digestsIn(dir, file string) ([]digest.Digest, error) {
	algorithms, err := children(dir)
	if err != nil {
		return nil, err
	}
	var found []digest.Digest
	for _, algorithm := range algorithms {
		some, err := encoded(filepath.Base(algorithm), algorithm, file)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// encoded are the digests of dir/HEX/file.
func encoded(algorithm, dir, file string) ([]digest.Digest, error) {
	entries, err := children(dir)
	if err != nil {
		return nil, err
	}
	var found []digest.Digest
	for _, entry := range entries {
		_, err := os.Stat(filepath.Join(entry, file))
		if errors.Is(err, fs.ErrNotExist) { // Being written, and held.
			continue
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), filepath.Base(entry))
		if err := errors.Join(err, d.Validate()); err != nil {
			return nil, fmt.Errorf("read %s: %w", entry, err)
		}
		found = append(found, d)
	}
	return found, nil
}

// children are the paths of what is in dir; an absent one is empty.
func children(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	paths := make([]string, 0, len(entries))
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

// removeUploads removes the unfinished uploads that have rested since before.
// The library's own function tells their age by their start, not by their last
// byte, and logs to the process's logger.
func (t tree) removeUploads(before time.Time) error {
	names, err := t.repositories()
	if err != nil {
		return err
	}
	for _, name := range names {
		uploads, err := t.uploads(name)
		if err != nil {
			return fmt.Errorf("list unfinished uploads: %w", err)
		}
		for _, dir := range uploads {
			touched, err := lastWrite(dir)
			if err == nil && touched.Before(before) {
				err = os.RemoveAll(dir)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // It ended meanwhile.
				return fmt.Errorf("remove unfinished upload: %w", err)
			}
		}
	}
	return nil
}

// lastWrite is when something in dir was last written.
func lastWrite(dir string) (time.Time, error) {
	var last time.Time
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
		return err
	})
	return last, err
}
