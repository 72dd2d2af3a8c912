// Command archive packs one program for a release: into a zip for Terraform's
// registry, or a tar.gz for Pulumi's. The same files give the same bytes.
//
//	archive OUT NAME FILE [NAME FILE]...
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("archive: ")
	if len(os.Args) < 4 || len(os.Args)%2 != 0 {
		log.Fatal("usage: archive OUT NAME FILE [NAME FILE]...")
	}
	if err := pack(os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// epoch is when everything in an archive was changed: the first day that a zip
// can tell.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// pack writes files, given as names and paths in turns, in their order.
func pack(out string, files []string) (err error) {
	to, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() {
		if closed := to.Close(); err == nil {
			err = closed
		}
	}()
	write := writeTar
	if strings.HasSuffix(out, ".zip") {
		write = writeZip
	}
	if err := write(to, files); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return nil
}

func writeZip(to io.Writer, files []string) error {
	w := zip.NewWriter(to)
	for i := 0; i < len(files); i += 2 {
		header := &zip.FileHeader{Name: files[i], Method: zip.Deflate, Modified: epoch}
		header.SetMode(0o755)
		entry, err := w.CreateHeader(header)
		if err == nil {
			err = add(entry, files[i+1])
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func writeTar(to io.Writer, files []string) error {
	packed := gzip.NewWriter(to)
	w := tar.NewWriter(packed)
	for i := 0; i < len(files); i += 2 {
		info, err := os.Stat(files[i+1])
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o755, Size: info.Size(), ModTime: epoch, Format: tar.FormatUSTAR})
		}
		if err == nil {
			err = add(w, files[i+1])
		}
		if err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return packed.Close()
}

func add(to io.Writer, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was read
	_, err = io.Copy(to, from)
	return err
}
