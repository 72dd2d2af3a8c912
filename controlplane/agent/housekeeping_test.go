package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

// fakeStorage is a disk of 1000 bytes with images on it.
type fakeStorage struct {
	mu     sync.Mutex // guards all
	other  resources.Bytes
	images map[string]resources.LocalImage // by ID
	names  map[string]string               // IDs by reference
	stuck  map[string]bool                 // can't be removed
	lists  int
	gone   []string
	before func(id string) // called before each removal, without the lock
	slow   time.Duration   // how long each listing and removal takes
}

func (f *fakeStorage) StorageRoot(context.Context) (string, error) { return "/images", nil }

func (f *fakeStorage) Images(context.Context) ([]resources.LocalImage, error) {
	defer time.Sleep(f.slow) // virtual time
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	return slices.Collect(maps.Values(f.images)), nil
}

func (f *fakeStorage) ImageID(_ context.Context, image, digest string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[image+digest], nil
}

func (f *fakeStorage) RemoveImage(_ context.Context, id string) error {
	if f.before != nil {
		f.before(id)
	}
	time.Sleep(f.slow) // virtual time
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck[id] || f.images[id].InUse {
		return errors.New("it is in use")
	}
	delete(f.images, id)
	f.gone = append(f.gone, id)
	return nil
}

func (f *fakeStorage) disk(path string) (disk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := disk{path: path, size: 1000, free: 1000 - f.other}
	for _, i := range f.images {
		d.free -= i.Size
	}
	return d, nil
}

func (f *fakeStorage) put(id, reference string, size resources.Bytes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.images == nil {
		f.images, f.names = map[string]resources.LocalImage{}, map[string]string{}
	}
	f.images[id] = resources.LocalImage{ID: id, Size: size, Pulled: true}
	f.names[reference] = id
}

func (f *fakeStorage) removed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.gone, " ")
}

// house is a loop with its housekeeping, in a bubble.
type house struct {
	*loop
	storage *fakeStorage
	said    string
}

func keepHouse(t *testing.T, f *fakeRuntime, s *fakeStorage, assigned ...resources.Replica) *house {
	h := &house{loop: run(t, f, assigned...), storage: s}
	k := &keeper{
		storage: s, loop: h.loop, log: slog.New(slog.DiscardHandler), data: "/data", disk: s.disk,
		say: func(shortage string) { h.said = shortage },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return h
}

func withImage(r resources.Replica, image string) resources.Replica {
	r.Template.Image = image
	return r
}

func TestAFullDiskIsCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStorage{}
		s.put("i1", "wanted", 300)
		s.put("i2", "other", 300)
		s.put("i3", "another", 100)
		s.put("i0", "by hand", 0)
		s.images["i0"] = resources.LocalImage{ID: "i0"}
		h := keepHouse(t, newFake(), s, withImage(replica(resources.RestartAlways), "wanted"))
		advance(10 * time.Minute)
		if got := s.removed(); got != "" {
			t.Errorf("the disk is not full, and %s was removed", got)
		}
		if s.lists != 1 {
			t.Errorf("images were listed %d times; want once, at the begin", s.lists)
		}
		s.put("i4", "new", 200)
		advance(minAge)
		if got := s.removed(); got != "i2" {
			t.Errorf("%q was removed; want i2, one of those that were seen first", got)
		}
		if h.said != "" {
			t.Errorf("it says %q", h.said)
		}
	})
}

// Where nothing can be removed, the node says so, Podman is not asked all the
// time, and the condition ends once there is room.
func TestADiskThatStaysFullIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStorage{stuck: map[string]bool{"i2": true}}
		s.put("i1", "wanted", 800)
		s.put("i2", "other", 60)
		h := keepHouse(t, newFake(), s, withImage(replica(resources.RestartAlways), "wanted"))
		advance(10 * time.Minute)
		if !strings.Contains(h.said, "14%") {
			t.Errorf("it says %q", h.said)
		}
		if lists := s.lists; lists > 20 {
			t.Errorf("in 10 minutes, images were listed %d times", lists)
		}
		if got := s.removed(); got != "" {
			t.Errorf("%s was removed", got)
		}
		s.mu.Lock()
		s.stuck = nil
		s.mu.Unlock()
		advance(collectInterval + diskInterval)
		if got := s.removed(); got != "i2" || h.said != "" {
			t.Errorf("%q was removed, and it says %q", got, h.said)
		}
	})
}

// A replica that comes while images are removed finds its image, or pulls it
// after the removal.
func TestAnImageThatIsWantedMeanwhileStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &fakeStorage{other: 500}
		s.put("i1", "first", 200)
		s.put("i2", "second", 200)
		h := keepHouse(t, f, s)
		h.removing <- struct{}{}
		advance(minAge + diskInterval) // the plan is made, and waits
		h.assign(resources.Assignment{Replicas: []resources.Replica{withImage(replica(resources.RestartAlways), "first")}})
		synctest.Wait()
		if slices.Contains(f.calls, "pull") {
			t.Error("it was pulled during the removal of an image")
		}
		<-h.removing
		advance(minAge)
		if diff := cmp.Diff("i2", s.removed()); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		expect(t, h.loop, resources.ReplicaRunning)
	})
}

// The image of a replica that is gone is kept for a while: another one may come.
func TestAnImageThatWasJustUsedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &fakeStorage{other: 500}
		f.image = "i1"
		s.put("i1", "first", 400)
		h := keepHouse(t, f, s, withImage(replica(resources.RestartAlways), "first"))
		advance(time.Hour)
		h.assign(resources.Assignment{})
		advance(minAge - time.Second)
		if got := s.removed(); got != "" {
			t.Errorf("%s was removed at once", got)
		}
		advance(minAge)
		if got := s.removed(); got != "i1" {
			t.Errorf("%q was removed; want i1", got)
		}
	})
}

// Whatever comes and goes, no image is removed from its pull on, for as long as a
// replica wants it. What is not pulled yet may go: the pull waits for that.
func TestNoNeededImageIsEverRemoved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		names := strings.Split("abcdefghijklmnopqrst", "")
		steps := rapid.SliceOfN(rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID[string]), 30, 60).Draw(rt, "assignments")
		waits := rapid.SliceOfN(rapid.IntRange(0, 40), len(steps), len(steps)).Draw(rt, "seconds between")
		var mu sync.Mutex // guards all below
		var assigned []string
		needed, removed := map[string]bool{}, 0
		synctest.Test(t, func(t *testing.T) {
			f, s := newFake(), &fakeStorage{other: 750, slow: 7 * time.Second}
			for _, name := range names {
				s.put(name, name, 10)
			}
			f.pulled = func(image string) {
				s.put(image, image, 10)
				mu.Lock()
				defer mu.Unlock()
				needed[image] = slices.Contains(assigned, image)
			}
			s.before = func(id string) {
				mu.Lock()
				defer mu.Unlock()
				removed++
				if needed[id] {
					rt.Errorf("%s is removed, and needed", id)
				}
			}
			h := keepHouse(t, f, s)
			for i, step := range steps {
				mu.Lock()
				assigned = step
				maps.DeleteFunc(needed, func(name string, _ bool) bool { return !slices.Contains(step, name) })
				mu.Unlock()
				var all []resources.Replica
				for _, name := range step {
					r := withImage(replica(resources.RestartAlways), name)
					r.ID = resources.ReplicaID("r-" + name)
					all = append(all, r)
				}
				h.assign(resources.Assignment{Replicas: all})
				advance(time.Duration(waits[i]) * time.Second)
				s.put(names[i%len(names)], names[i%len(names)], 10) // somebody else pulls it
			}
			advance(10 * time.Minute)
		})
		if removed == 0 {
			rt.Error("nothing was ever removed: this tests nothing")
		}
	})
}

func TestAConditionKeepsItsBegin(t *testing.T) {
	a := &Agent{Config: Config{Log: slog.New(slog.DiscardHandler)}, conditions: map[resources.NodeConditionType]resources.NodeCondition{}}
	a.setCondition(resources.DiskPressure, "full", noon)
	a.setCondition(resources.DiskPressure, "fuller", noon.Add(time.Hour))
	want := resources.NodeCondition{Type: resources.DiskPressure, Message: "full", Since: noon}
	if diff := cmp.Diff(want, a.conditions[resources.DiskPressure]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.setCondition(resources.DiskPressure, "", noon)
	if len(a.conditions) != 0 {
		t.Errorf("left: %v", a.conditions)
	}
}
