package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever the files' times are, the same content gives the same archive.
func TestAnArchiveIsReproducible(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.zip", "a.tar.gz"} {
		packed := func(changed time.Time) []byte {
			out := filepath.Join(dir, name)
			err := os.Chtimes(program, changed, changed)
			if err == nil {
				err = pack(out, []string{"program", program})
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
		if first := packed(epoch); len(first) == 0 || !bytes.Equal(first, packed(epoch.AddDate(40, 0, 0))) {
			t.Errorf("%s depends on the time", name)
		}
	}
}
