package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// The seal is a skippable frame of zstd (RFC 8878, section 3.1.2): a magic number,
// the length of what follows, and the sum.
const (
	sealMagic = 0x184D2A5C
	sealSize  = 4 + 4 + sha256.Size
)

func sealOf(sum hash.Hash) []byte {
	text := binary.LittleEndian.AppendUint32(nil, sealMagic)
	text = binary.LittleEndian.AppendUint32(text, sha256.Size)
	return sum.Sum(text)
}

// sealer sums what is written through it.
type sealer struct {
	to  io.Writer
	sum hash.Hash
}

func newSealer(w io.Writer) *sealer { return &sealer{w, sha256.New()} }

func (s *sealer) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.sum.Write(p[:n])
	return n, err
}

// seal ends the archive.
func (s *sealer) seal() error {
	_, err := s.to.Write(sealOf(s.sum))
	return err
}

// unsealer gives what is before the seal, and an error instead of the end where
// the seal does not fit.
type unsealer struct {
	from  io.Reader
	sum   hash.Hash
	held  []byte // read, and either content or the seal
	ended bool
	whole bool // the seal was there, and fits
}

func (u *unsealer) Read(p []byte) (int, error) {
	if u.sum == nil {
		u.sum = sha256.New()
	}
	for len(u.held) <= sealSize && !u.ended {
		chunk := make([]byte, 64<<10)
		n, err := u.from.Read(chunk)
		u.held = append(u.held, chunk[:n]...)
		if errors.Is(err, io.EOF) {
			u.ended = true
		} else if err != nil {
			return 0, err
		}
	}
	if len(u.held) > sealSize {
		n := copy(p, u.held[:len(u.held)-sealSize])
		u.sum.Write(u.held[:n])
		u.held = u.held[n:]
		return n, nil
	}
	if !bytes.Equal(u.held, sealOf(u.sum)) {
		return 0, fmt.Errorf("%w: its sum does not fit, so it was cut off or changed", ErrBroken)
	}
	u.whole = true
	return 0, io.EOF
}
