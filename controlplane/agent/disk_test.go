package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// hours makes an image that was first seen, and last used, so many hours ago;
// 0 is never.
func old(id string, size resources.Bytes, seen, used int) image {
	i := image{id: id, size: size, seen: noon.Add(-time.Duration(seen) * time.Hour)}
	if used > 0 {
		i.used = noon.Add(-time.Duration(used) * time.Hour)
	}
	return i
}

func ids(images []image) string {
	var all []string
	for _, i := range images {
		all = append(all, i.id)
	}
	return strings.Join(all, " ")
}

func TestCollect(t *testing.T) {
	needed := old("needed", 50, 9, 9)
	needed.needed = true
	young := old("young", 50, 0, 0)
	young.seen = noon.Add(-minAge + time.Second)
	justUsed := old("justUsed", 50, 9, 0)
	justUsed.used = noon.Add(-minAge + time.Second)
	for _, c := range []struct {
		name   string
		free   resources.Bytes // of 1000
		images []image
		want   string
	}{
		{"the disk is not full", 151, []image{old("a", 100, 9, 9)}, ""},
		{"as many as it takes", 150, []image{old("a", 30, 9, 9), old("b", 20, 9, 8), old("c", 20, 9, 7)}, "a b"},
		{"exactly at the threshold", 150, []image{old("a", 50, 9, 9), old("b", 20, 9, 8)}, "a"},
		{"the one that was not used for longest goes first", 140, []image{old("a", 60, 9, 2), old("b", 60, 1, 3)}, "b"},
		{"what was never used goes before", 149, []image{old("a", 60, 9, 9), old("b", 60, 1, 0)}, "b"},
		{"of those, the one that is here for longest", 149, []image{old("a", 60, 1, 0), old("b", 60, 2, 0)}, "b"},
		{"of equals, by ID", 149, []image{old("b", 60, 1, 0), old("a", 60, 1, 0)}, "a"},
		{"not enough is all there is", 0, []image{old("a", 1, 9, 9), old("b", 1, 9, 8)}, "a b"},
		{"never what is needed, new, or was just used", 0, []image{needed, young, justUsed}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := collect(disk{size: 1000, free: c.free}, c.images, noon)
			if ids(got) != c.want {
				t.Errorf("%q goes, want %q", ids(got), c.want)
			}
		})
	}
}

func TestCollectKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := disk{size: resources.Bytes(rapid.Int64Range(1, 1<<50).Draw(t, "size"))}
		d.free = resources.Bytes(rapid.Int64Range(0, int64(d.size)).Draw(t, "free"))
		age := rapid.Map(rapid.Int64Range(0, 600), func(s int64) time.Time { return noon.Add(-time.Duration(s) * time.Second) })
		all := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) image {
			i := image{
				id: rapid.StringMatching("[a-z]{3}").Draw(t, "id"), size: resources.Bytes(rapid.Int64Range(0, 1<<48).Draw(t, "image size")),
				needed: rapid.Bool().Draw(t, "needed"), seen: age.Draw(t, "seen"),
			}
			if rapid.Bool().Draw(t, "was used") {
				i.used = age.Draw(t, "used")
			}
			return i
		}), 0, 12, func(i image) string { return i.id }).Draw(t, "images")
		before := slices.Clone(all)
		gone := collect(d, all, noon)

		if !slices.Equal(before, all) {
			t.Fatal("the input was changed")
		}
		shuffled := rapid.Permutation(all).Draw(t, "another order")
		if again := collect(d, shuffled, noon); ids(again) != ids(gone) {
			t.Fatalf("in another order %q goes, and not %q", ids(again), ids(gone))
		}
		if d.free > d.part(fullFree) && len(gone) > 0 {
			t.Fatalf("the disk is not full, and %q goes", ids(gone))
		}
		free := d.free
		for n, i := range gone {
			if i.needed || noon.Sub(i.seen) < minAge || noon.Sub(i.used) < minAge {
				t.Fatalf("%+v goes", i)
			}
			if free >= d.part(goalFree) {
				t.Fatalf("%q goes, though %d are enough", ids(gone), n)
			}
			free += i.size
		}
		if !d.full() || free >= d.part(goalFree) {
			return
		}
		for _, i := range all {
			stays := !slices.Contains(gone, i)
			if stays && !i.needed && noon.Sub(i.seen) >= minAge && noon.Sub(i.used) >= minAge {
				t.Fatalf("the disk is still full, and %+v stays", i)
			}
		}
	})
}

func TestPressure(t *testing.T) {
	const gib = resources.GiB
	roomy := disk{path: "/roomy", size: 100 * gib, free: 50 * gib, inodes: 1000, freeInodes: 500}
	for _, c := range []struct {
		name         string
		data, images disk
		held         bool
		want         string // words of the message; empty for none
	}{
		{"all is well", roomy, roomy, false, ""},
		{"images at 15 %", roomy, disk{path: "/i", size: 100 * gib, free: 15 * gib}, false, ""},
		{"images below 15 %", roomy, disk{path: "/i", size: 100 * gib, free: 15*gib - 1}, false, "14% (15359MiB) is free on the disk of /i"},
		{"data at 10 %", disk{path: "/d", size: 100 * gib, free: 10 * gib}, roomy, false, ""},
		{"data below 10 %", disk{path: "/d", size: 100 * gib, free: 10*gib - 1}, roomy, false, "on the disk of /d"},
		{"it ends later than it began", roomy, disk{path: "/i", size: 100 * gib, free: 20*gib - 1}, true, "/i"},
		{"it ends where collection leaves it", roomy, disk{path: "/i", size: 100 * gib, free: 20 * gib}, true, ""},
		{"few files left", disk{path: "/d", size: 100 * gib, free: 50 * gib, inodes: 1000, freeInodes: 49}, roomy, false, "49 more files (4%)"},
		{"few files left for images", roomy, disk{path: "/i", size: 100 * gib, free: 50 * gib, inodes: 1000, freeInodes: 49}, false, "/i"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := pressure(c.data, c.images, c.held)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(c.want, got))
			}
		})
	}
}
