package libvirtnodes

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/skerry-io/skerry/resources"
)

// images brings node images to this machine. Downloads are kept in dir, so that
// one that was broken off goes on where it ended.
type images struct {
	dir string
	log *slog.Logger
}

// localImage is an image file of this machine, unpacked.
type localImage struct {
	file   *os.File
	size   int64
	header imageHeader
	// name of the base volume: it follows from the content.
	volume    string
	temporary bool
}

func (l *localImage) close() {
	l.file.Close() //nolint:errcheck // it was read
	if l.temporary {
		os.Remove(l.file.Name()) //nolint:errcheck // it is in the cache's directory
	}
}

// baseVolume names the base volume of an image by the checksum of its file.
func baseVolume(sum string) string { return basePrefix + sum[:16] + ".img" }

const basePrefix = "skerry-base-"

// volumeOf names the base volume of an image without reading the image, where
// its user wrote the checksum.
func volumeOf(image resources.NodeImage) (string, bool) {
	_, sum, found := strings.Cut(image.Checksum, ":")
	if !found {
		return "", false
	}
	return baseVolume(sum), true
}

// get returns the image as a file. The caller closes it.
func (i images) get(ctx context.Context, image resources.NodeImage) (*localImage, error) {
	path := image.Source
	if isURL(path) {
		var err error
		if path, err = i.download(ctx, image); err != nil {
			return nil, err
		}
	}
	sum, err := check(path, image.Checksum)
	if err != nil {
		if isURL(image.Source) {
			os.Remove(path) //nolint:errcheck // a download that is not what it should be
		}
		return nil, err
	}
	local, err := i.unpack(path)
	if err != nil {
		return nil, resources.Invalid("image.source", "read %s: %v", image.Source, err)
	}
	local.volume = baseVolume(sum)
	return local, nil
}

func isURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// check compares the file with its checksum, and returns the sum: the user's,
// or SHA-256 where there is none.
func check(path, checksum string) (string, error) {
	algorithm, want, _ := strings.Cut(checksum, ":")
	sum := sha256.New()
	if algorithm == "sha512" {
		sum = sha512.New()
	}
	file, err := os.Open(path)
	if err != nil {
		return "", resources.Invalid("image.source", "%v", err)
	}
	defer file.Close() //nolint:errcheck // it was read
	if _, err := io.Copy(sum, file); err != nil {
		return "", resources.Invalid("image.source", "read %s: %v", path, err)
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if want != "" && got != want {
		return "", resources.Invalid("image.checksum", "the image has %s:%s, and not %s: correct the checksum, or find out why the file differs", algorithm, got, checksum)
	}
	return got, nil
}

// unpack opens the file, and unpacks it where it is compressed. What it is is
// read from its first bytes, never from its name.
func (i images) unpack(path string) (*localImage, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	head := make([]byte, qcow2HeaderSize)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		file.Close() //nolint:errcheck // it is given up
		return nil, err
	}
	head = head[:n]
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		file.Close() //nolint:errcheck // it is given up
		return nil, err
	}
	if packed := packing(head); packed != "" {
		defer file.Close() //nolint:errcheck // it was read
		return i.unpackFile(file, packed)
	}
	return opened(file, head, false)
}

func opened(file *os.File, head []byte, temporary bool) (*localImage, error) {
	l := &localImage{file: file, temporary: temporary}
	info, err := file.Stat()
	if err == nil {
		l.size = info.Size()
		l.header, err = parseImageHeader(head, l.size)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// packing names the compression that a file begins with, or nothing.
func packing(head []byte) string {
	for _, known := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"xz", "\xfd7zXZ\x00"}, {"zstd", "\x28\xb5\x2f\xfd"},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return known.name
		}
	}
	return ""
}

func (i images) unpackFile(packed *os.File, packing string) (*localImage, error) {
	reader, err := unpacker(bufio.NewReader(packed), packing)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(i.dir, "unpacked-*")
	if err != nil {
		return nil, err
	}
	i.log.Info("unpack the image", "file", packed.Name(), "packing", packing)
	_, err = io.Copy(&sparseWriter{file: file}, reader)
	if err == nil {
		err = finishSparse(file)
	}
	head := make([]byte, qcow2HeaderSize)
	if err == nil {
		var n int
		if n, err = file.ReadAt(head, 0); errors.Is(err, io.EOF) {
			head, err = head[:n], nil
		}
	}
	if err != nil {
		(&localImage{file: file, temporary: true}).close()
		return nil, fmt.Errorf("unpack %s: %w", packing, err)
	}
	return opened(file, head, true)
}

func unpacker(packed io.Reader, packing string) (io.Reader, error) {
	switch packing {
	case "gzip":
		return gzip.NewReader(packed)
	case "xz":
		return xz.NewReader(packed)
	default:
		reader, err := zstd.NewReader(packed)
		if err != nil {
			return nil, err
		}
		return reader.IOReadCloser(), nil
	}
}

// sparseWriter leaves holes where there is nothing but zeros.
type sparseWriter struct{ file *os.File }

func (s *sparseWriter) Write(p []byte) (int, error) {
	if len(bytes.Trim(p, "\x00")) > 0 {
		return s.file.Write(p)
	}
	_, err := s.file.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// finishSparse gives a file that ends with a hole its size.
func finishSparse(file *os.File) error {
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	return file.Truncate(size)
}

// download fetches the image into the cache, from where an earlier download
// ended, and returns its path. A finished one is asked for again only where no
// checksum says what it has to be.
func (i images) download(ctx context.Context, image resources.NodeImage) (string, error) {
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache of images: %w", err)
	}
	key := sha256.Sum256([]byte(image.Source + " " + image.Checksum))
	path := filepath.Join(i.dir, hex.EncodeToString(key[:8]))
	if _, err := os.Stat(path); err == nil && image.Checksum != "" {
		return path, nil
	}
	part := path + ".part"
	if err := i.fetch(ctx, image.Source, part); err != nil {
		return "", resources.Invalid("image.source", "download %s: %v", image.Source, err)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("keep the image: %w", err)
	}
	os.Remove(part + ".etag") //nolint:errcheck // it belonged to the part
	return path, nil
}

// Attempts and waits of a download. An attempt goes on where the last ended.
const (
	downloadRetries = 6
	downloadWait    = 30 * time.Second
)

func (i images) fetch(ctx context.Context, url, part string) error {
	sender := retryablehttp.NewClient()
	sender.Logger = nil
	sender.RetryMax, sender.RetryWaitMax = downloadRetries, downloadWait
	var failed error
	for attempt := 0; attempt <= downloadRetries; attempt++ {
		var again bool
		if again, failed = i.fetchOnce(ctx, sender, url, part); failed == nil || !again {
			return failed
		}
		i.log.Warn("the download broke off, and goes on", "url", url, "err", failed)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryablehttp.DefaultBackoff(time.Second, downloadWait, attempt, nil)):
		}
	}
	return failed
}

// fetchOnce continues a download. again is true where another attempt may help.
func (i images) fetchOnce(ctx context.Context, sender *retryablehttp.Client, url, part string) (again bool, err error) {
	file, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	defer file.Close() //nolint:errcheck // its content is checked
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	tag, _ := os.ReadFile(part + ".etag")
	if have > 0 && len(tag) > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		request.Header.Set("If-Range", string(tag))
	}
	response, err := sender.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	switch response.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		have = 0
		if err := file.Truncate(0); err != nil {
			return false, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		if err := os.WriteFile(part+".etag", []byte(response.Header.Get("ETag")), 0o600); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("the server answers %s", response.Status)
	}
	progress := &progress{log: i.log, url: url, done: have, total: have + response.ContentLength, told: time.Now()}
	if _, err := io.Copy(file, io.TeeReader(response.Body, progress)); err != nil {
		return ctx.Err() == nil, err
	}
	return false, nil
}

// progressStep is how often a download tells how far it is.
const progressStep = 5 * time.Second

type progress struct {
	log         *slog.Logger
	url         string
	done, total int64
	told        time.Time
}

func (p *progress) Write(chunk []byte) (int, error) {
	p.done += int64(len(chunk))
	if time.Since(p.told) >= progressStep {
		p.told = time.Now()
		p.log.Info("downloading the image", "url", p.url, "bytes", p.done, "of", p.total)
	}
	return len(chunk), nil
}
