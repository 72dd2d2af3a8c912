package agent

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Storage is what a runtime keeps on the disk.
type Storage interface {
	// StorageRoot is the directory of the images.
	StorageRoot(ctx context.Context) (string, error)
	// Images lists all images of the machine.
	Images(ctx context.Context) ([]resources.LocalImage, error)
	// ImageID gives the ID of the image that a replica would run, or nothing
	// where the machine lacks it.
	ImageID(ctx context.Context, image, digest string) (string, error)
	// RemoveImage removes an image that no container has. An absent one is no
	// error.
	RemoveImage(ctx context.Context, id string) error
}

// imageName is how a replica names its image.
type imageName struct{ image, digest string }

func nameOf(r resources.Replica) imageName { return imageName{r.Template.Image, r.ImageDigest} }

// imageNeeds is what the loop knows of the use of images.
type imageNeeds struct {
	// wanted are the images of the replicas that are to run, sorted.
	wanted []imageName
	// pulled is when images were pulled, and used when the loop last saw a
	// container of an image, by its ID.
	pulled map[imageName]time.Time
	used   map[string]time.Time
}

// forgetPulls forgets what was not pulled a moment ago.
func (n *imageNeeds) forgetPulls(now time.Time) {
	maps.DeleteFunc(n.pulled, func(_ imageName, at time.Time) bool { return now.Sub(at) >= minAge })
}

// needImages renews what the replicas need.
func (l *loop) needImages() {
	wanted := map[imageName]bool{}
	for _, u := range l.units {
		if u.replica.Wanted {
			wanted[nameOf(u.replica)] = true
		}
	}
	names := slices.SortedFunc(maps.Keys(wanted), func(a, b imageName) int {
		return cmp.Or(cmp.Compare(a.image, b.image), cmp.Compare(a.digest, b.digest))
	})
	l.reported.Lock()
	defer l.reported.Unlock()
	l.needed.wanted = names
}

// seeImages takes note of the images in use.
func (l *loop) seeImages(now time.Time) {
	l.reported.Lock()
	defer l.reported.Unlock()
	for _, c := range l.listed.containers {
		l.needed.used[c.Image] = now
	}
}

// after tells the housekeeping of a step that may have filled the disk, or left
// something on it that nobody needs.
func (l *loop) after(r resources.Replica, do verb, now time.Time) {
	switch do {
	case pull:
		l.reported.Lock()
		l.needed.forgetPulls(now)
		l.needed.pulled[nameOf(r)] = now
		l.reported.Unlock()
		l.litter()
	case judge, remove:
		l.litter()
	case wait, create, start, stop, gone:
	}
}

// litter wakes the housekeeping.
func (l *loop) litter() {
	select {
	case l.littered <- struct{}{}:
	default:
	}
}

// imageNeeds gives the images that are needed, and those that were pulled a
// moment ago; and when the present ones were last in use. What is known of
// others is forgotten.
func (l *loop) imageNeeds(present []resources.LocalImage, now time.Time) (names []imageName, used map[string]time.Time) {
	l.reported.Lock()
	defer l.reported.Unlock()
	n := &l.needed
	n.forgetPulls(now)
	maps.DeleteFunc(n.used, func(id string, _ time.Time) bool {
		return !slices.ContainsFunc(present, func(i resources.LocalImage) bool { return i.ID == id })
	})
	return slices.AppendSeq(slices.Clone(n.wanted), maps.Keys(n.pulled)), maps.Clone(n.used)
}

// wantsOthers is true where replicas need other images than those.
func (l *loop) wantsOthers(names []imageName) bool {
	l.reported.Lock()
	defer l.reported.Unlock()
	return slices.ContainsFunc(l.needed.wanted, func(n imageName) bool { return !slices.Contains(names, n) })
}

// How often the disk is looked at, which costs two system calls, is how often
// the kubelet does (its evictionMonitoringPeriod). Podman is asked only where
// the disk is full: after an event, and again when images may have come of age.
const (
	diskInterval    = 10 * time.Second
	collectInterval = minAge
	collectTimeout  = 5 * time.Minute
)

// keeper does the housekeeping of a node. It belongs to one goroutine.
type keeper struct {
	storage Storage
	loop    *loop
	log     *slog.Logger
	// data is the directory of the node's own data, and disk tells how full one
	// is.
	data string
	disk func(path string) (disk, error)
	// say is told what is short of the disk, or nothing.
	say func(shortage string)

	root string // of the images; empty before it is known
	// seen is when each image was first seen.
	seen map[string]time.Time
	// littered is true where something has happened since the last collection,
	// which was at collected.
	littered  bool
	collected time.Time
	short     bool
}

// keepHouse collects images and watches the disk until ctx ends.
func (a *Agent) keepHouse(ctx context.Context) {
	if a.Storage == nil {
		return
	}
	k := &keeper{
		storage: a.Storage, loop: a.loop, log: a.Log, data: a.Data, disk: diskOf,
		say: func(shortage string) { a.setCondition(resources.DiskPressure, shortage, time.Now()) },
	}
	k.run(ctx)
}

func (k *keeper) run(ctx context.Context) {
	// Podman is not started for nothing: the loop asks it first.
	select {
	case <-ctx.Done():
		return
	case <-k.loop.littered:
	}
	k.littered = true
	timer := time.NewTimer(diskInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.loop.littered:
			k.littered = true
			continue // what comes with many others is looked at once
		case <-timer.C:
		}
		if err := k.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			k.log.Warn("the disk is looked at again later", "err", err)
		}
		timer.Reset(diskInterval)
	}
}

// look looks at the disk, and collects images where it is full.
func (k *keeper) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	if k.root == "" {
		if err := k.begin(ctx, now); err != nil {
			return err
		}
	}
	images, err := k.disk(k.root)
	if err != nil {
		return err
	}
	age := now.Sub(k.collected)
	if images.full() && (k.littered || age >= collectInterval) {
		k.collected, k.littered = now, false
		if err = k.collect(ctx, now); err != nil {
			k.log.Error("unused images are not removed", "err", err)
		}
		if images, err = k.disk(k.root); err != nil {
			return err
		}
	}
	data, err := k.disk(k.data)
	if err != nil {
		return err
	}
	short := pressure(data, images, k.short)
	k.short = short != ""
	k.say(short)
	return nil
}

// begin finds out where the images are, and which ones there are: they are of
// age in time.
func (k *keeper) begin(ctx context.Context, now time.Time) error {
	root, err := k.storage.StorageRoot(ctx)
	if err != nil {
		return err
	}
	all, err := k.storage.Images(ctx)
	if err != nil {
		return err
	}
	k.see(all, now)
	k.root = root
	return nil
}

// see notes which images there are.
func (k *keeper) see(all []resources.LocalImage, now time.Time) {
	seen := map[string]time.Time{}
	for _, i := range all {
		seen[i.ID] = now
		if first, known := k.seen[i.ID]; known {
			seen[i.ID] = first
		}
	}
	k.seen = seen
}

// collect removes images until enough of the disk is free, or none is left that
// may go.
func (k *keeper) collect(ctx context.Context, now time.Time) error {
	tried := map[string]bool{}
	for {
		disk, err := k.disk(k.root)
		if err != nil {
			return err
		}
		names, images, err := k.survey(ctx, now)
		if err != nil {
			return err
		}
		for i := range images {
			images[i].needed = images[i].needed || tried[images[i].id]
		}
		doomed := collect(disk, images, now)
		if len(doomed) == 0 {
			return nil
		}
		if err := k.removeAll(ctx, doomed, names, tried); err != nil {
			return err
		}
	}
}

// removeAll removes images, until replicas need others than those names. The
// error is that of ctx.
func (k *keeper) removeAll(ctx context.Context, doomed []image, names []imageName, tried map[string]bool) error {
	for _, image := range doomed {
		gone, err := k.remove(ctx, image, names)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !gone && err == nil {
			return nil
		}
		tried[image.id] = true
		if err != nil {
			k.log.Info("an unused image stays", "image", image.id, "err", err)
		}
	}
	return nil
}

// survey lists the images, and the names of those that are needed.
func (k *keeper) survey(ctx context.Context, now time.Time) ([]imageName, []image, error) {
	present, err := k.storage.Images(ctx)
	if err != nil {
		return nil, nil, err
	}
	k.see(present, now)
	names, used := k.loop.imageNeeds(present, now)
	needed := map[string]bool{}
	for _, n := range names {
		id, err := k.storage.ImageID(ctx, n.image, n.digest)
		if err != nil {
			return nil, nil, err
		}
		needed[id] = true
	}
	all := make([]image, len(present))
	for i, p := range present {
		all[i] = image{id: p.ID, size: p.Size, needed: p.InUse || !p.Pulled || needed[p.ID], seen: k.seen[p.ID], used: used[p.ID]}
	}
	return names, all, nil
}

// remove removes an image, unless replicas need others by now than those names.
// One that is needed from here on is pulled after the removal.
func (k *keeper) remove(ctx context.Context, i image, names []imageName) (gone bool, err error) {
	k.loop.removing <- struct{}{}
	defer func() { <-k.loop.removing }()
	if k.loop.wantsOthers(names) {
		return false, nil
	}
	if err := k.storage.RemoveImage(ctx, i.id); err != nil {
		return false, err
	}
	k.loop.measures.collected.Inc()
	k.log.Info("an unused image was removed", "image", i.id, "size", i.size.String(), "used", i.used)
	return true, nil
}

// setCondition says that the condition holds, or, with an empty message, that it
// doesn't. The message with which it began stays.
func (a *Agent) setCondition(condition resources.NodeConditionType, message string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, held := a.conditions[condition]
	switch {
	case message == "" && held:
		delete(a.conditions, condition)
		a.Log.Info("a condition of the node is over", "condition", condition)
	case message != "" && !held:
		a.conditions[condition] = resources.NodeCondition{Type: condition, Message: message, Since: now.UTC()}
		a.Log.Warn("a condition of the node began", "condition", condition, "message", message)
	}
}
