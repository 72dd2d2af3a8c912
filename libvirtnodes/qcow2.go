package libvirtnodes

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-io/skerry/resources"
)

// qcow2HeaderSize is as much of a file as parseImageHeader wants to see.
const qcow2HeaderSize = 104

// imageHeader is what the first bytes of a disk image say.
type imageHeader struct {
	format string // qcow2 or raw
	size   resources.Bytes
}

// parseImageHeader reads the first bytes of a file of the given size. Anything
// that isn't another known format is taken for a raw image. Source of the
// layout: QEMU, docs/interop/qcow2.txt.
func parseImageHeader(head []byte, fileSize int64) (imageHeader, error) {
	if len(head) < 4 || string(head[:4]) != "QFI\xfb" {
		if fileSize == 0 || fileSize%512 != 0 {
			return imageHeader{}, errors.New("it is neither a qcow2 image nor a raw one, whose size is a multiple of 512 bytes")
		}
		return imageHeader{format: "raw", size: resources.Bytes(fileSize)}, nil
	}
	if len(head) < 72 {
		return imageHeader{}, errors.New("it begins as a qcow2 image and ends within its header")
	}
	version := binary.BigEndian.Uint32(head[4:])
	if version != 2 && version != 3 {
		return imageHeader{}, fmt.Errorf("it is a qcow2 image of version %d; convert it with qemu-img to version 3", version)
	}
	if binary.BigEndian.Uint64(head[8:]) != 0 {
		return imageHeader{}, errors.New("it has a backing file; make it whole with qemu-img convert")
	}
	size := binary.BigEndian.Uint64(head[24:])
	if size == 0 || size > 1<<62 {
		return imageHeader{}, fmt.Errorf("its header says that the disk has %d bytes", size)
	}
	return imageHeader{format: "qcow2", size: resources.Bytes(size)}, nil
}
