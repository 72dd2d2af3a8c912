package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxDocument is the size up to which manifests and configurations are read. It is
// the size of manifest up to which registries take one.
const maxDocument = 4 << 20

// maxLinks is how many links in the tar are followed from one to the next.
const maxLinks = 8

// files is a tar file, read where it lies.
type files struct {
	source  io.ReaderAt
	members map[string]member
}

// member is a file of the tar, or a link to one.
type member struct {
	offset, size int64
	link         string
}

// compressions are told by how a file begins, with the command that unpacks it.
var compressions = []struct{ name, magic, unpack string }{
	{"gzip", "\x1f\x8b", "gunzip"},
	{"zstd", "\x28\xb5\x2f\xfd", "unzstd"},
	{"xz", "\xfd7zXZ\x00", "unxz"},
	{"bzip2", "BZh", "bunzip2"},
}

// readFiles reads the headers of a tar of that many bytes.
func readFiles(source io.ReaderAt, size int64) (*files, error) {
	if size == 0 {
		return nil, errors.New("it is empty")
	}
	section := io.NewSectionReader(source, 0, size)
	f := &files{source: source, members: map[string]member{}}
	reader := tar.NewReader(section)
	last := ""
	for {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return nil, brokenTar(source, last, err)
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("read it: %w", err)
		}
		last = clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if sparse(h) {
				return nil, fmt.Errorf("its file %s is stored sparse; pack it again without that", last)
			}
			f.members[last] = member{offset: offset, size: h.Size}
		case tar.TypeLink:
			f.members[last] = member{link: clean(h.Linkname)}
		case tar.TypeSymlink:
			f.members[last] = member{link: clean(path.Join(path.Dir(last), h.Linkname))}
		}
	}
}

// brokenTar says what is wrong with a tar that can't be read further than last.
func brokenTar(source io.ReaderAt, last string, err error) error {
	if last == "" {
		head := make([]byte, 8)
		n, _ := source.ReadAt(head, 0)
		for _, c := range compressions {
			if bytes.HasPrefix(head[:n], []byte(c.magic)) {
				return fmt.Errorf("it is compressed with %s; unpack it first, with %s", c.name, c.unpack)
			}
		}
	}
	switch {
	case last == "" && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
		return errors.New("it is not a tar file; give an archive such as `podman save --format oci-archive` writes")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it is truncated: it ends inside or right after %s; save or copy it again", last)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("it is damaged after %s; save or copy it again", last)
	}
	return fmt.Errorf("read it after %q: %w", last, err)
}

// sparse tells a file whose bytes don't lie in the tar one after the other.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean gives the one name of a file that tars spell in several ways.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// has tells whether the tar has the file.
func (f *files) has(name string) bool {
	_, err := f.find(name)
	return err == nil
}

// find finds a file, through links.
func (f *files) find(name string) (member, error) {
	at := clean(name)
	for range maxLinks {
		m, ok := f.members[at]
		if !ok {
			return member{}, fmt.Errorf("it has no file %s, so it is not whole; save it again", name)
		}
		if m.link == "" {
			return m, nil
		}
		at = m.link
	}
	return member{}, fmt.Errorf("its file %s is a link that leads nowhere", name)
}

// open reads a member.
func (f *files) open(m member) *io.SectionReader {
	return io.NewSectionReader(f.source, m.offset, m.size)
}

// document reads a manifest or a configuration.
func (f *files) document(name string) ([]byte, error) {
	m, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if m.size > maxDocument {
		return nil, fmt.Errorf("its file %s has %d bytes, more than the %d that an image's may have", name, m.size, maxDocument)
	}
	data := make([]byte, m.size)
	if _, err := io.ReadFull(f.open(m), data); err != nil {
		return nil, fmt.Errorf("read its file %s: %w", name, err)
	}
	return data, nil
}
