package agent

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// disk is how full the file system of a directory is.
type disk struct {
	path string
	size resources.Bytes
	// free is what others than root may still take.
	free resources.Bytes
	// inodes are how many files there may be, and freeInodes how many more; both
	// are zero where the file system doesn't count them.
	inodes, freeInodes uint64
}

func diskOf(path string) (disk, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return disk{}, fmt.Errorf("read the size of the file system of %s: %w", path, err)
	}
	unit := resources.Bytes(fs.Bsize)
	return disk{
		path: path, size: resources.Bytes(fs.Blocks) * unit, free: resources.Bytes(fs.Bavail) * unit,
		inodes: fs.Files, freeInodes: fs.Ffree,
	}, nil
}

// below is true where less than the percentage of the disk is free.
func (d disk) below(percent int64) bool { return d.free < d.part(percent) }

// part is a percentage of the disk, without an overflow on large ones.
func (d disk) part(percent int64) resources.Bytes {
	return d.size/100*resources.Bytes(percent) + d.size%100*resources.Bytes(percent)/100
}

// When images are collected, as the kubelet does by default: at
// imageGCHighThresholdPercent 85 of the disk in use, down to
// imageGCLowThresholdPercent 80, but none younger than imageMinimumGCAge 2m
// (k8s.io/kubelet/config/v1beta1, KubeletConfiguration).
const (
	fullFree = 15 // percent, of which no more is free where images are collected
	goalFree = 20 // percent that is to be free then
	minAge   = 2 * time.Minute
)

// full is true where images are to be collected.
func (d disk) full() bool { return d.free <= d.part(fullFree) }

// image is an image of the node, as the collection looks at it.
type image struct {
	id   string
	size resources.Bytes
	// needed is true where a container has it, a replica needs it, or somebody else
	// than skerry has brought it.
	needed bool
	// seen is when it was first seen, and used when it last was in use; zero
	// where that was never seen.
	seen, used time.Time
}

// collect gives the images that go so that enough of the disk is free, in their
// order: those that were not used for longest, and of those that were never
// used, the ones that are here for longest. It gives nothing unless the disk is
// full. What an image shares with others counts for it in full, so that fewer
// may go than it takes: whoever removes them looks at the disk again.
func collect(d disk, images []image, now time.Time) []image {
	if !d.full() {
		return nil
	}
	unneeded := slices.DeleteFunc(slices.Clone(images), func(i image) bool {
		return i.needed || now.Sub(i.seen) < minAge || now.Sub(i.used) < minAge
	})
	slices.SortFunc(unneeded, func(a, b image) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		if c := a.seen.Compare(b.seen); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	missing := d.part(goalFree) - d.free
	for i, one := range unneeded {
		if missing <= 0 {
			return unneeded[:i]
		}
		missing -= one.size
	}
	return unneeded
}

// When a disk is too full for more, as the kubelet sees it by default
// (evictionHard): less than 10 % of the node's disk or 15 % of the images' is
// free, or 5 % of the files that either may have. Once that is so, it ends with
// as much more as a collection frees: 5 % of the disk.
const (
	leastData   = 10
	leastImages = 15
	leastInodes = 5
	margin      = goalFree - fullFree
)

// pressure says what is short on the disks of the node's data and of its
// images, or nothing. held is true where something was short before.
func pressure(data, images disk, held bool) string {
	extra := int64(0)
	if held {
		extra = margin
	}
	switch {
	case images.below(leastImages + extra):
		return shortage(images)
	case data.below(leastData + extra):
		return shortage(data)
	case images.inodesBelow(leastInodes + extra):
		return inodeShortage(images)
	case data.inodesBelow(leastInodes + extra):
		return inodeShortage(data)
	}
	return ""
}

func (d disk) inodesBelow(percent int64) bool {
	return d.inodes > 0 && float64(d.freeInodes) < float64(d.inodes)*float64(percent)/100
}

func shortage(d disk) string {
	return fmt.Sprintf("only %d%% (%dMiB) is free on the disk of %s, and no unused image is left to remove; grow the disk, or free some of it",
		percent(uint64(d.free), uint64(d.size)), d.free/resources.MiB, d.path)
}

func inodeShortage(d disk) string {
	return fmt.Sprintf("the file system of %s takes only %d more files (%d%%); remove some", d.path, d.freeInodes, percent(d.freeInodes, d.inodes))
}

func percent(part, of uint64) uint64 {
	if of == 0 {
		return 0
	}
	return uint64(float64(part) / float64(of) * 100)
}
