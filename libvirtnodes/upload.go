package libvirtnodes

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/skerry-io/skerry/resources"
)

// Upload puts an image, a file of this machine, into a new volume of the pool,
// as Create does with an image that the pool does not have.
func (h *Host) Upload(poolName, volume string, image *os.File) error {
	p, err := h.openPool(poolName)
	if err != nil {
		return err
	}
	defer p.free()
	defer h.lockPool(poolName)()
	info, err := image.Stat()
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	return p.uploadBase(volume, image, info.Size())
}

// headSize is how much of a base image is written last, in bytes: until then it
// is all zero, and so shows that the upload is not done. The proof after it may
// be there before (see copyHere).
const (
	headSize  = 512
	proofSize = 16
)

// uploadBase puts a file into a new volume, holes and all, and its head last.
func (p *pool) uploadBase(name string, file *os.File, size int64) error {
	if err := p.create(name, "raw", resources.Bytes(size), ""); err != nil {
		return err
	}
	volume, err := p.volume(name)
	if err != nil {
		return err
	}
	defer volume.Free() //nolint:errcheck // it only gives memory back
	done, err := p.copyHere(volume, name, file, size)
	if err == nil && !done {
		err = p.sendSparse(volume, file, size)
	}
	if err != nil {
		return fmt.Errorf("upload the image to volume %s: %w", name, err)
	}
	head := make([]byte, min(headSize+proofSize, size))
	if _, err := file.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	if err := p.upload(volume, 0, head); err != nil {
		return fmt.Errorf("upload the image to volume %s: %w", name, err)
	}
	// libvirt finds out the format when it looks again.
	if err := p.pool.Refresh(0); err != nil {
		return fmt.Errorf("refresh storage pool %s: %w", p.name, err)
	}
	return nil
}

// copyHere copies the file into the volume's own, where that is a file that this
// process may write: the kernel copies several times faster than a stream
// carries. Whether a file of the volume's path is the volume, and not that of
// another machine, shows by a proof: random bytes that go the long way. It does
// nothing, and done is false, where this is not so.
func (p *pool) copyHere(volume *libvirt.StorageVol, name string, file *os.File, size int64) (done bool, err error) {
	here, err := os.OpenFile(p.path(name), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil || size < headSize+proofSize {
		return false, nil // the stream carries it
	}
	defer func() {
		if closed := here.Close(); err == nil {
			err = closed
		}
	}()
	var proof, seen [proofSize]byte
	rand.Read(proof[:])
	if err := p.upload(volume, headSize, proof[:]); err != nil {
		return false, err
	}
	if _, err := here.ReadAt(seen[:], headSize); err != nil || seen != proof {
		return false, nil // it is another file
	}
	return true, copyData(here, file, headSize+proofSize, size)
}

// copyData copies what is no hole, from an offset on.
func copyData(to, from *os.File, at, size int64) error {
	for at < size {
		data, length, err := extent(from, at, size)
		if err != nil {
			return err
		}
		if data {
			if err := copyRange(to, from, at, length); err != nil {
				return err
			}
		}
		at += length
	}
	return nil
}

func copyRange(to, from *os.File, at, length int64) error {
	for _, file := range []*os.File{to, from} {
		if _, err := file.Seek(at, io.SeekStart); err != nil {
			return err
		}
	}
	_, err := io.CopyN(to, from, length)
	return err
}

func (p *pool) sendSparse(volume *libvirt.StorageVol, file *os.File, size int64) error {
	at := int64(headSize)
	if _, err := file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	read := func(_ *libvirt.Stream, most int) ([]byte, error) {
		chunk := make([]byte, most)
		n, err := file.ReadAt(chunk, at)
		at += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return chunk[:n], nil
	}
	hole := func(*libvirt.Stream) (bool, int64, error) { return extent(file, at, size) }
	skip := func(_ *libvirt.Stream, length int64) error { at += length; return nil } //nolint:unparam // libvirt asks for it
	return p.send(volume, headSize, uint64(size-headSize), libvirt.STORAGE_VOL_UPLOAD_SPARSE_STREAM, func(stream *libvirt.Stream) error {
		return stream.SparseSendAll(read, hole, skip)
	})
}

// extent tells whether the file has data at an offset, and how long the data or
// the hole is.
func extent(file *os.File, at, size int64) (data bool, length int64, err error) {
	if at >= size {
		return false, 0, nil
	}
	next, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return false, size - at, nil
	case errors.Is(err, unix.EINVAL):
		return true, size - at, nil // a file system that knows no holes
	case err != nil:
		return false, 0, err
	case next > at:
		return false, next - at, nil
	}
	end, err := unix.Seek(int(file.Fd()), at, unix.SEEK_HOLE)
	return true, end - at, err
}

// complete is true where the upload of a base image came to its end.
func (p *pool) complete(name string) (bool, error) {
	head, err := p.head(name, headSize)
	if errors.Is(err, errNoVolume) {
		return false, nil
	}
	return len(strings.Trim(string(head), "\x00")) > 0, err
}
