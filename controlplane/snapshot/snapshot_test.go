package snapshot

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

func TestMain(m *testing.M) {
	workFactor = 10
	os.Exit(m.Run())
}

const passphrase = "correct horse battery"

var about = About{Cluster: "c1", Name: "home", Version: "1.2.3", Taken: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), Keys: []resources.SealingKey{{ID: "key-of-secrets", Secret: []byte("0123")}}}

// store is what etcd would save.
func store(size int) []byte {
	data := bytes.Repeat([]byte("secret"), size)
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

func seal(t *testing.T, data []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	err := Seal(&file, passphrase, about, func(w io.Writer) error {
		_, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(data)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestSealedComesBack(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		file := seal(t, store(size))
		if bytes.Contains(file, []byte("secret")) || bytes.Contains(file, []byte("home")) || bytes.Contains(file, []byte("key-of-secrets")) {
			t.Error("the file says what is in it")
		}
		got, r, err := Open(bytes.NewReader(file), passphrase)
		if err != nil {
			t.Fatal(err)
		}
		want := about
		want.Format = 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, store(size)) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
}

func TestWhatIsNotWholeIsRefused(t *testing.T) {
	save := func(data []byte) error {
		return Seal(io.Discard, passphrase, about, func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	for name, data := range map[string][]byte{"nothing": nil, "cut off": store(100)[:300], "without a sum": store(100)[:600]} {
		if err := save(data); err == nil || !strings.Contains(err.Error(), "broke off") {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := seal(t, store(100_000))
	for name, broken := range map[string][]byte{
		"cut off": file[:len(file)/2], "changed": bytes.Replace(file, file[len(file)-9:], []byte("changed!!"), 1), "no snapshot": []byte("hello"),
	} {
		_, r, err := Open(bytes.NewReader(broken), passphrase)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

func TestPassphrases(t *testing.T) {
	if err := Seal(io.Discard, "short", about, nil); err == nil || !strings.Contains(err.Error(), "12 characters") {
		t.Error(err)
	}
	_, _, err := Open(bytes.NewReader(seal(t, store(1))), "another passphrase")
	if err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Error(err)
	}
}

// Whoever has a file may have made it.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("age-encryption.org/v1\n-> scrypt 8OB/9J3zLCpWLrYpDGsOVA 10\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, _, err := Open(bytes.NewReader(file), passphrase); err == nil {
			t.Error("it opens, and was sealed by nobody")
		}
	})
}
