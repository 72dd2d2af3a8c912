package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"pgregory.net/rapid"
)

// entry is a file of a tar under test.
type entry struct {
	name, data, link string
	kind             byte
}

// pack writes a tar.
func pack(entries ...entry) []byte {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: 0o644, Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname, h.Size = e.kind, e.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buffer.Bytes()
}

// must is for what can't fail in a test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// image makes the same image for the same seed.
func imageOf(seed int64, layers int) v1.Image {
	return must(random.Image(700, int64(layers), random.WithSource(rand.NewSource(seed))))
}

// indexOf makes an index of images for several platforms.
func indexOf(images ...v1.Image) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for i, img := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "riscv64"}[i%3]},
		}})
	}
	return index
}

// oci are the files of a layout with the images.
func oci(t testing.TB, what ...mutate.Appendable) []entry {
	dir := t.TempDir()
	l := must(layout.Write(dir, empty.Index))
	for _, w := range what {
		var err error
		switch w := w.(type) {
		case v1.Image:
			err = l.AppendImage(w)
		case v1.ImageIndex:
			err = l.AppendIndex(w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var entries []entry
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			entries = append(entries, entry{name: must(filepath.Rel(dir, path)), data: string(must(os.ReadFile(path)))})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// docker are the files of a docker archive as `podman save` writes it, with the
// names that are given.
func docker(img v1.Image, tags ...string) []entry {
	config := must(img.RawConfigFile())
	name := must(img.ConfigName()).Hex + ".json"
	entries := []entry{{name: name, data: string(config)}}
	s := saved{Config: name, RepoTags: tags}
	for _, l := range must(img.Layers()) {
		layer := must(l.DiffID()).Hex + ".tar"
		entries = append(entries, entry{name: layer, data: string(must(io.ReadAll(must(l.Uncompressed()))))})
		s.Layers = append(s.Layers, layer)
	}
	return append(entries, entry{name: "manifest.json", data: string(must(json.Marshal([]saved{s})))})
}

func parse(data []byte) (*contents, error) {
	return read(bytes.NewReader(data), int64(len(data)))
}

func TestAnOCIArchiveKeepsItsDigest(t *testing.T) {
	img, index := imageOf(1, 2), indexOf(imageOf(2, 1), imageOf(3, 2))
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index}, mutate.IndexAddendum{Add: img})
	for name, what := range map[string]mutate.Appendable{"image": img, "index": index, "nested index": nested} {
		c, err := parse(pack(oci(t, what)...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := must(what.(partial.Describable).Digest()); c.root != want {
			t.Errorf("%s: digest %s, want %s", name, c.root, want)
		}
	}
	if c, err := parse(pack(oci(t, img, img)...)); err != nil || c.root != must(img.Digest()) {
		t.Errorf("one image under two names: %v", err)
	}
}

// The digest is a promise: another one in a new version would replace every
// image of every user.
func TestADockerArchivesDigest(t *testing.T) {
	entries := docker(imageOf(1, 2), "localhost/web:1")
	c, err := parse(pack(entries...))
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:65228122c582c25517378586ca0b0cd6b2a8d154a90a8eb0d3cdc45a60e7f11d"
	if c.root.String() != want {
		t.Errorf("digest %s, want %s", c.root, want)
	}
	m := c.manifests[c.root]
	if m.mediaType != types.DockerManifestSchema2 || !strings.Contains(string(m.raw), string(types.DockerUncompressedLayer)) {
		t.Errorf("manifest %s", m.raw)
	}
}

func TestADockerArchivesDigestDependsOnContentOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := imageOf(rapid.Int64Range(1, 9).Draw(t, "seed"), rapid.IntRange(0, 4).Draw(t, "layers"))
		want := must(parse(pack(docker(img)...))).root
		var entries []entry
		for _, e := range docker(img, "localhost/web:"+rapid.StringMatching(`[a-z]{1,5}`).Draw(t, "tag")) {
			if !strings.HasSuffix(e.name, ".tar") || !rapid.Bool().Draw(t, "linked") {
				entries = append(entries, e)
				continue
			}
			target := strings.TrimSuffix(e.name, ".tar")
			entries = append(entries,
				entry{name: "layers/" + target, data: e.data},
				entry{name: "links/" + target, link: "../layers/" + target, kind: tar.TypeSymlink},
				entry{name: e.name, link: "links/" + target, kind: tar.TypeLink})
		}
		entries = rapid.Permutation(entries).Draw(t, "order")
		if rapid.Bool().Draw(t, "dot") {
			for i := range entries {
				entries[i].name = "./" + entries[i].name
			}
		}
		c, err := parse(pack(entries...))
		if err != nil {
			t.Fatal(err)
		}
		if c.root != want {
			t.Errorf("digest %s, want %s", c.root, want)
		}
	})
}

// Whatever becomes of an archive on its way, it is refused, or is the same image.
func TestADamagedArchiveIsRefused(t *testing.T) {
	whole := map[string][]byte{
		"oci":    pack(oci(t, indexOf(imageOf(2, 1), imageOf(3, 2)))...),
		"docker": pack(docker(imageOf(1, 3))...),
	}
	for form, data := range whole {
		want := must(parse(data)).root
		rapid.Check(t, func(t *rapid.T) {
			broken := slices.Clone(data)
			if rapid.Bool().Draw(t, "truncated") {
				broken = broken[:rapid.IntRange(0, len(data)-1).Draw(t, "length")]
			} else {
				broken[rapid.IntRange(0, len(data)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			}
			c, err := parse(broken)
			if err == nil && c.root != want && form == "docker" {
				t.Errorf("another image: %s, want %s", c.root, want)
			}
			if err == nil {
				walk(t, c)
			}
		})
	}
}

// walk reads all of an image that was taken.
func walk(t interface{ Fatal(...any) }, c *contents) {
	for h, m := range c.manifests {
		if !m.mediaType.IsImage() {
			continue
		}
		img := must(c.image(h))
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r := must(l.Compressed())
			_, _ = io.Copy(io.Discard, r) // It may be damaged; that is seen in a push.
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(pack(oci(f, indexOf(imageOf(2, 1)))...))
	f.Add(pack(docker(imageOf(1, 1), "a")...))
	f.Add(pack(entry{name: "index.json", data: `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json"}]}`}))
	f.Add(pack(entry{name: "manifest.json", link: "manifest.json", kind: tar.TypeSymlink}))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data)
		if err != nil {
			return
		}
		if _, err := v1.NewHash(c.root.String()); err != nil {
			t.Fatal(err)
		}
		walk(t, c)
	})
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	img := imageOf(1, 1)
	two := docker(img, "localhost/web:1")
	two[len(two)-1].data = `[{"RepoTags":["localhost/web:1"]},{"RepoTags":["localhost/db:2"]}]`
	layerGone := slices.DeleteFunc(docker(img), func(e entry) bool { return strings.HasSuffix(e.name, ".tar") })
	layerChanged := docker(img)
	layerChanged[1].data = "another layer"
	blobGone := slices.DeleteFunc(oci(t, img), func(e entry) bool { return strings.HasSuffix(e.name, must(img.ConfigName()).Hex) })
	whole := pack(docker(img)...)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":               {nil, "it is empty"},
		"text":                {[]byte("FROM scratch\n"), "it is not a tar file"},
		"long text":           {bytes.Repeat([]byte("FROM scratch\n"), 100), "it is not a tar file"},
		"gzip":                {append([]byte("\x1f\x8b\x08\x00"), make([]byte, 600)...), "it is compressed with gzip; unpack it first, with gunzip"},
		"zstd":                {[]byte("\x28\xb5\x2f\xfd...."), "it is compressed with zstd"},
		"another tar":         {pack(entry{name: "Containerfile"}), "it is a tar file, but holds no image: it has neither index.json nor manifest.json"},
		"truncated":           {whole[:len(whole)/2], "it is truncated: it ends inside or right after "},
		"two images":          {pack(two...), "it holds 2 images (localhost/web:1, localhost/db:2); save each into an archive of its own"},
		"two OCI images":      {pack(oci(t, img, imageOf(2, 1))...), "it holds 2 images; save each"},
		"no image":            {pack(entry{name: "manifest.json", data: "[]"}), "it holds no image"},
		"no OCI image":        {pack(oci(t)...), "it holds no image"},
		"layer gone":          {pack(layerGone...), ".tar, so it is not whole"},
		"layer changed":       {pack(layerChanged...), ".tar is damaged: its digest is "},
		"configuration gone":  {pack(blobGone...), "so it is not whole"},
		"damaged index":       {pack(entry{name: "index.json", data: "{"}), "its index.json is damaged"},
		"a link to itself":    {pack(entry{name: "index.json", link: "./index.json", kind: tar.TypeSymlink}, entry{name: "manifest.json", data: "{}"}), "its manifest.json is damaged"},
		"a chart, no image":   {pack(entry{name: "index.json", data: `{"manifests":[{"mediaType":"application/x"}]}`}), "something else than a container image"},
		"fewer layers":        {pack(entry{name: "c", data: `{"rootfs":{"diff_ids":["sha256:1"]}}`}, entry{name: "manifest.json", data: `[{"Config":"c"}]`}), "it has 0 layers, and its configuration tells of 1"},
		"an endless document": {pack(entry{name: "index.json", data: strings.Repeat(" ", maxDocument+1)}), "more than the 4194304"},
	} {
		if _, err := parse(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant: %s", name, err, c.want)
		}
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "web.tar")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent.tar"): "no such file",
		dir:                              "it is a directory",
		text:                             "it is not a tar file",
	} {
		_, err := Open(path)
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("image archive %s: ", path)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// `docker save` lists platforms that it does not have.
func TestTheOnlyPlatformThatIsThere(t *testing.T) {
	here, elsewhere := imageOf(1, 1), imageOf(2, 1)
	index := indexOf(here, elsewhere)
	without := func(gone ...v1.Hash) []entry {
		return slices.DeleteFunc(oci(t, index), func(e entry) bool {
			return slices.ContainsFunc(gone, func(h v1.Hash) bool { return strings.HasSuffix(e.name, h.Hex) })
		})
	}
	c, err := parse(pack(without(must(elsewhere.Digest()))...))
	if err != nil || c.root != must(here.Digest()) {
		t.Errorf("%v", err)
	}
	if _, err := parse(pack(without(must(elsewhere.ConfigName()))...)); err == nil || !strings.Contains(err.Error(), "platform linux/arm64: ") {
		t.Errorf("a platform that is there in part: %v", err)
	}
	if _, err := parse(pack(without(must(elsewhere.Digest()), must(here.Digest()))...)); err == nil {
		t.Error("no platform at all was taken")
	}
}
