package images

import (
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestArchiveIsReadableAndReproducible(t *testing.T) {
	var digests []string
	for range 2 {
		image, err := tarball.ImageFromPath(Archive(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.OS != "linux" || config.Architecture != runtime.GOARCH {
			t.Errorf("image is for %s/%s", config.OS, config.Architecture)
		}
		digests = append(digests, digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds differ: %v", digests)
	}
}
