package seal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestOnlyTheSameKeyAndNameOpen(t *testing.T) {
	key, other := NewKey(), NewKey()
	sealed, err := Seal(key, "secret/db/2", []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	if value, err := Open(key, "secret/db/2", sealed); err != nil || string(value) != "word" {
		t.Errorf("%q, %v", value, err)
	}
	changed := append([]byte{}, sealed...)
	changed[len(changed)-1]++
	for name, attempt := range map[string]func() ([]byte, error){
		"another key":     func() ([]byte, error) { return Open(other, "secret/db/2", sealed) },
		"another name":    func() ([]byte, error) { return Open(key, "secret/web/2", sealed) },
		"another version": func() ([]byte, error) { return Open(key, "secret/db/1", sealed) },
		"changed":         func() ([]byte, error) { return Open(key, "secret/db/2", changed) },
		"cut off":         func() ([]byte, error) { return Open(key, "secret/db/2", sealed[:10]) },
		"nothing":         func() ([]byte, error) { return Open(key, "secret/db/2", nil) },
	} {
		if value, err := attempt(); !errors.Is(err, ErrBroken) || value != nil {
			t.Errorf("%s: %q, %v", name, value, err)
		}
	}
	again, err := Seal(key, "secret/db/2", []byte("word"))
	if err != nil || cmp.Equal(sealed, again) {
		t.Errorf("the same value is sealed alike twice: %v", err)
	}
}

func TestARingOutlivesItsServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pki", "sealing.json")
	open := func() *Ring {
		t.Helper()
		r, err := OpenRing(path)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	first, err := r.Make(time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := r.Seal(first, "secret/db/1", []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(path)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("the file of the keys: %v %v", about.Mode(), err)
	}
	r = open()
	if value, err := r.Open(sealed); err != nil || string(value) != "word" {
		t.Errorf("after a restart: %q, %v", value, err)
	}
	moved := sealed
	moved.Version = "secret/web/1"
	if _, err := r.Open(moved); !errors.Is(err, ErrBroken) {
		t.Errorf("under another name: %v", err)
	}
	second, err := r.Make(time.Unix(2, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Change(resources.Keyring{Drop: []string{first}}); err != nil {
		t.Fatal(err)
	}
	r = open()
	if _, err := r.Open(sealed); err == nil {
		t.Error("a key that was dropped opens")
	}
	if keys := r.Keys(); len(keys) != 1 || keys[0].ID != second || !r.Has(second) {
		t.Errorf("%v are left", keys)
	}
	if err := r.Change(resources.Keyring{Keys: []resources.SealingKey{{ID: "short", Secret: []byte("x")}}}); err == nil || r.Has("short") {
		t.Errorf("a key that is none: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"keys":[{"id":"a","secret":"eA=="}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRing(path); err == nil {
		t.Error("a damaged file is read")
	}
}

func FuzzOpen(f *testing.F) {
	key := NewKey()
	sealed, err := Seal(key, "secret/db/1", []byte("word"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("secret/db/1", sealed)
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, name string, box []byte) {
		value, err := Open(key, name, box)
		if err == nil && (name != "secret/db/1" || !cmp.Equal(box, sealed)) {
			t.Errorf("%q opens under %q: %q", box, name, value)
		}
	})
}
