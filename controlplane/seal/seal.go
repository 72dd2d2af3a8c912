// Package seal keeps values from everybody who has no key: what the store holds of
// secrets, and what a node keeps of them for a start without a server.
//
// A value is sealed with XChaCha20-Poly1305 under a random nonce, and bound to its
// name: one that was moved to another name, or to an earlier version of its own,
// does not open. A Ring is the keys of a server, in a file for root only.
package seal

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is that of a key, in bytes.
const KeySize = chacha20poly1305.KeySize

// ErrBroken says that a value was not sealed with the key under the name, or was
// changed since.
var ErrBroken = errors.New("it was sealed with another key or under another name, or was changed since")

// NewKey makes a key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key)
	return key
}

// Seal seals a value under a name.
func Seal(key []byte, name string, value []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	nonce := make([]byte, box.NonceSize(), box.NonceSize()+len(value)+box.Overhead())
	rand.Read(nonce)
	return box.Seal(nonce, nonce, value, []byte(name)), nil
}

// Open gives the value that was sealed under the name.
func Open(key []byte, name string, sealed []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if len(sealed) < box.NonceSize() {
		return nil, fmt.Errorf("open %s: %w", name, ErrBroken)
	}
	value, err := box.Open(nil, sealed[:box.NonceSize()], sealed[box.NonceSize():], []byte(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, ErrBroken)
	}
	return value, nil
}
