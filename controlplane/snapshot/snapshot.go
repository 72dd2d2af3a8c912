// Package snapshot seals what a cluster must not lose into one file.
//
// The file holds a line of JSON that says what it is of (About), and then the
// store's own snapshot: services, secrets, and the key of the cluster's
// authority. What secrets are sealed with is in the line. So all of it is sealed with a passphrase, in the format of age
// (https://age-encryption.org/v1), whose tools open it too. A file that was cut
// off or changed does not open.
package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"

	"github.com/skerry-io/skerry/resources"
)

// About says what a snapshot is of.
type About struct {
	// Format is that of the file: 1.
	Format  int                 `json:"format"`
	Cluster resources.ClusterID `json:"cluster"`
	Name    string              `json:"name"`
	// Version is that of the skerry that took it.
	Version string    `json:"version"`
	Taken   time.Time `json:"taken"`
	// Keys are what the secrets in the store are sealed with. A file of a version that
	// sealed none has none.
	Keys []resources.SealingKey `json:"keys,omitempty"`
}

const format = 1

// workFactor makes a try of a passphrase take a second: age's own default.
var workFactor = 18

// MinPassphrase is how many bytes a passphrase has at least. The file holds the
// key to the cluster, and whoever has the file may try for as long as he likes.
const MinPassphrase = 12

// Seal writes a snapshot to w, whose second part save writes, in etcd's form:
// one that is not whole is an error.
func Seal(w io.Writer, passphrase string, about About, save func(io.Writer) error) error {
	if len(passphrase) < MinPassphrase {
		return fmt.Errorf("seal the snapshot: the passphrase is shorter than %d characters; take a longer one", MinPassphrase)
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("seal the snapshot: %w", err)
	}
	recipient.SetWorkFactor(workFactor)
	sealed, err := age.Encrypt(w, recipient)
	if err != nil {
		return fmt.Errorf("seal the snapshot: %w", err)
	}
	about.Format = format
	if err := json.NewEncoder(sealed).Encode(about); err != nil {
		return fmt.Errorf("seal the snapshot: %w", err)
	}
	whole := &checked{to: sealed, hash: sha256.New()}
	if err := save(whole); err != nil {
		return err
	}
	if !whole.ok() {
		return errors.New("seal the snapshot: the store broke off before its end; try again")
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("seal the snapshot: %w", err)
	}
	return nil
}

// Open reads what Seal wrote. The store's snapshot is what the reader gives; it
// fails at the place where the file was changed or cut off.
func Open(r io.Reader, passphrase string) (About, io.Reader, error) {
	var about About
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return about, nil, fmt.Errorf("open the snapshot: %w", err)
	}
	opened, err := age.Decrypt(r, identity)
	switch _, wrong := errors.AsType[*age.NoIdentityMatchError](err); {
	case wrong:
		return about, nil, errors.New("open the snapshot: the passphrase is not the one that it was sealed with")
	case err != nil:
		return about, nil, fmt.Errorf("open the snapshot: %w", err)
	}
	rest := bufio.NewReader(opened)
	line, err := rest.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &about)
	}
	if err != nil {
		return about, nil, fmt.Errorf("open the snapshot: it does not say what it is of: %w", err)
	}
	if about.Format != format {
		return about, nil, fmt.Errorf("open the snapshot: it has format %d, and this skerry reads %d; take the skerry that took it, %s", about.Format, format, about.Version)
	}
	return about, rest, nil
}

// checked hands on what etcd saves, which ends with the SHA-256 of all before.
type checked struct {
	to   io.Writer
	hash hash.Hash
	last []byte // what may be the sum
}

func (c *checked) Write(p []byte) (int, error) {
	c.last = append(c.last, p...)
	if n := len(c.last) - sha256.Size; n > 0 {
		c.hash.Write(c.last[:n])
		c.last = append(c.last[:0], c.last[n:]...)
	}
	return c.to.Write(p)
}

func (c *checked) ok() bool { return bytes.Equal(c.last, c.hash.Sum(nil)) }
