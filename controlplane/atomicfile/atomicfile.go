// Package atomicfile writes files that are whole, whenever somebody reads them or
// the power fails.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces a file, whose directory is there, with one that only its owner
// reads and writes. It returns once the content is on the disk; on an error the
// file is what it was.
func Write(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it has its name by now
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
