package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/controlplane/backup"
	"github.com/skerry-io/skerry/resources"
)

// fakeVolumes are the volumes of a runtime, as values.
type fakeVolumes map[string]resources.RuntimeVolume

func (f fakeVolumes) PutVolume(_ context.Context, v resources.RuntimeVolume) error {
	f[v.Name] = v
	return nil
}

func (f fakeVolumes) RemoveVolume(_ context.Context, name string) error {
	delete(f, name)
	return nil
}

func (f fakeVolumes) MountVolume(context.Context, resources.RuntimeVolume, resources.Replica) (string, func(context.Context) error, error) {
	return "", nil, errors.ErrUnsupported
}

func (f fakeVolumes) ListVolumes(context.Context) ([]string, error) {
	return slices.Sorted(maps.Keys(f)), nil
}

func notRunning(*unit) bool { return false }

func mountingReplica(mounts ...resources.Mount) resources.Replica {
	r := replica(resources.RestartAlways)
	r.Template.Mounts = mounts
	return r
}

func assignedVolumes(all ...resources.AssignedVolume) resources.Assignment {
	return resources.Assignment{Volumes: all}
}

func TestALocalVolumeLivesAndGoes(t *testing.T) {
	f, dir, removed := fakeVolumes{}, t.TempDir(), []string{}
	v := newVolumes(f, dir, slog.New(slog.DiscardHandler))
	data := resources.Volume{Name: "data", Driver: "local", RetainOnDestroy: true}
	r := mountingReplica(resources.Mount{Volume: "data", Path: "/data"})
	if err := v.prepare(t.Context(), r); err == nil || !strings.Contains(err.Error(), "mount volume data: the control plane has not said") {
		t.Errorf("one that nobody assigned: %v", err)
	}
	v.follow(assignedVolumes(resources.AssignedVolume{Volume: data}))
	v.use(map[resources.ReplicaID]*unit{r.ID: {replica: r}}, notRunning)
	if err := v.prepare(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "data", "data")
	want := fakeVolumes{"data": {Name: "data", Driver: "local", Options: map[string]string{"type": "none", "o": "bind", "device": place}}}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("the runtime's volumes (-want +got):\n%s", diff)
	}
	if there, err := volumesIn(dir); err != nil || len(there) > 0 {
		t.Errorf("one that nobody has written to is kept: %v, %v", there, err)
	}
	if err := os.WriteFile(filepath.Join(place, "row"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if there, err := volumesIn(dir); err != nil || !cmp.Equal(there, []resources.Volume{data}) {
		t.Errorf("the node has %v, %v", there, err)
	}
	tell := func(_ context.Context, name string) error {
		removed = append(removed, name)
		return nil
	}
	for _, c := range []struct {
		name    string
		said    resources.Assignment
		mounted bool
		made    int
		row     bool
	}{
		{"a replica has it", assignedVolumes(resources.AssignedVolume{Volume: data, Remove: true}), true, 1, true},
		{"it is not the node's any more", assignedVolumes(), false, 0, true},
		{"it is to go", assignedVolumes(resources.AssignedVolume{Volume: data, Remove: true}), false, 0, false},
	} {
		v.follow(c.said)
		if !c.mounted {
			v.use(nil, notRunning)
		}
		if err := v.tidy(t.Context(), tell); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := os.Stat(filepath.Join(place, "row")); len(f) != c.made || (err == nil) != c.row {
			t.Errorf("%s: the runtime has %v, and the row: %v", c.name, f, err)
		}
	}
	if diff := cmp.Diff([]string{"data"}, removed); diff != "" {
		t.Errorf("the control plane heard of (-want +got):\n%s", diff)
	}
}

// What a node remembers is no reason to remove anything: it may be long ago.
func TestNothingIsRemovedBeforeAServerSaysSo(t *testing.T) {
	f, dir := fakeVolumes{"data": {}}, t.TempDir()
	v := newVolumes(f, dir, slog.New(slog.DiscardHandler))
	said := assignedVolumes(resources.AssignedVolume{Volume: resources.Volume{Name: "data"}, Remove: true})
	said.Remembered = true
	v.follow(said)
	if err := v.tidy(t.Context(), func(context.Context, string) error { return errors.New("nobody asked") }); err != nil || len(f) != 1 {
		t.Errorf("left is %v, %v", f, err)
	}
}

// A replica that leaves a link in its volume leads nobody out of it.
func TestASubpathStaysInItsVolume(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts; needs root")
	}
	f, dir, outside := fakeVolumes{}, t.TempDir(), t.TempDir()
	v := newVolumes(f, dir, slog.New(slog.DiscardHandler))
	v.follow(assignedVolumes(resources.AssignedVolume{Volume: resources.Volume{Name: "data"}}))
	good, bad := mountingReplica(resources.Mount{Volume: "data", Path: "/a", Subpath: "a/b"}), mountingReplica(resources.Mount{Volume: "data", Path: "/a", Subpath: "link/b"})
	t.Cleanup(func() {
		if err := removeData(filepath.Join(dir, "data")); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // the second one finds it
		if err := v.prepare(t.Context(), good); err != nil {
			t.Fatal(err)
		}
	}
	place := f[good.Template.Mounts[0].RuntimeName()].Options["device"]
	if err := os.WriteFile(filepath.Join(place, "row"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "data", "a", "b", "row")); err != nil {
		t.Error(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "data", "data", "link")); err != nil {
		t.Fatal(err)
	}
	if err := v.prepare(t.Context(), bad); err == nil {
		t.Error("a link led out of the volume")
	}
	if err := unix.Unmount(place, 0); err != nil {
		t.Errorf("it is mounted twice or not at all: %v", err)
	} else if err := unix.Unmount(place, 0); err == nil {
		t.Error("it was mounted twice")
	}
}

// A replica whose volume is held stops, stays down without a failure, and starts
// again.
func TestAHeldVolumeStopsItsReplica(t *testing.T) {
	r := replica(resources.RestartNever)
	now := time.Unix(1_700_000_000, 0)
	running := &resources.Container{Running: true, StartedAt: now}
	ended := &resources.Container{FinishedAt: now.Add(time.Minute), ExitCode: 143}
	var h history
	for _, step := range []struct {
		held bool
		c    *resources.Container
		want verb
	}{{false, running, wait}, {true, running, stop}, {true, ended, wait}, {true, nil, wait}, {false, ended, start}} {
		h = h.hold(step.held, step.c)
		if got, _ := next(r, h, step.c, now.Add(time.Hour)); got != step.want {
			t.Errorf("held %t, container %+v: %s, want %s", step.held, step.c, got, step.want)
		}
	}
	if h.failures > 0 || h.over {
		t.Errorf("a pause counts as a failure: %+v", h)
	}
}

// The data of an archive takes the place of what was there at once, or not at all.
func TestDataIsReplacedAsAWhole(t *testing.T) {
	dir := t.TempDir()
	v := newVolumes(fakeVolumes{}, dir, slog.New(slog.DiscardHandler))
	v.follow(assignedVolumes(resources.AssignedVolume{Volume: resources.Volume{Name: "data", Driver: "local"}}))
	if _, err := v.has("other"); err == nil {
		t.Error("a volume that is not the node's is")
	}
	volume, err := v.has("data")
	if err == nil {
		_, err = v.directory(volume, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	row := filepath.Join(dir, "data", "data", "row")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(row, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if text, err := os.ReadFile(row); err != nil || string(text) != want {
			t.Errorf("the row is %q, want %q: %v", text, want, err)
		}
		entries, err := os.ReadDir(filepath.Join(dir, "data"))
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the data there is more than its file: %v %v", entries, err)
		}
	}
	put("old")
	var archive bytes.Buffer
	if err := backup.Write(&archive, filepath.Dir(row), &backup.About{}); err != nil {
		t.Fatal(err)
	}
	put("new")
	if err := v.replaceData(volume, bytes.NewReader(archive.Bytes()[:archive.Len()-1])); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("a broken archive: %v", err)
	}
	is("new")
	if err := v.replaceData(volume, &archive); err != nil {
		t.Fatal(err)
	}
	is("old")
}

// A volume of a size is restored beside what is there, too, and keeps its size.
func TestAVolumeOfASize(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("mounts; needs root, and is left out by -short")
	}
	f, dir := fakeVolumes{}, t.TempDir()
	v := newVolumes(f, dir, slog.New(slog.DiscardHandler))
	volume := resources.Volume{Name: "data", Size: 32 * resources.MiB}
	r := mountingReplica(resources.Mount{Volume: "data", Path: "/data"})
	t.Cleanup(func() {
		if err := removeData(filepath.Join(dir, "data")); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left is %v, %v", left, err)
		}
	})
	prepare := func() string {
		t.Helper()
		v.follow(assignedVolumes(resources.AssignedVolume{Volume: volume}))
		if err := v.prepare(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return f["data"].Options["device"]
	}
	place := prepare()
	if there, err := volumesIn(dir); err != nil || len(there) > 0 {
		t.Errorf("one that nobody has written to is kept: %v, %v", there, err)
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(place, "row"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if text, err := os.ReadFile(filepath.Join(place, "row")); err != nil || string(text) != want {
			t.Errorf("the row is %q, want %q: %v", text, want, err)
		}
	}
	// More than half of it is full: there would be no room for both in it.
	if err := os.WriteFile(filepath.Join(place, "large"), make([]byte, 18*resources.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	put("old")
	var archive bytes.Buffer
	if err := backup.Write(&archive, place, &backup.About{}); err != nil {
		t.Fatal(err)
	}
	put("new")
	if err := v.replaceData(volume, bytes.NewReader(archive.Bytes()[:archive.Len()-1])); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("a broken archive: %v", err)
	}
	is("new")
	if err := v.replaceData(volume, &archive); err != nil {
		t.Fatal(err)
	}
	is("old")
	volume.Size = 64 * resources.MiB
	if again := prepare(); again != place {
		t.Errorf("it was at %s, and is at %s", place, again)
	}
	is("old")
	if err := os.WriteFile(filepath.Join(place, "larger"), make([]byte, 30*resources.MiB), 0o600); err != nil {
		t.Errorf("it has not grown: %v", err)
	}
	if there, err := volumesIn(dir); err != nil || len(there) != 1 || there[0].Size != volume.Size {
		t.Errorf("the node has %v, %v", there, err)
	}
}

// What can't be exchanged at once is replaced a file at a time, or not at all.
func TestContentIsReplacedOrLeftAsItWas(t *testing.T) {
	dir, source := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		var got []string
		for _, entry := range entries {
			text, _ := os.ReadFile(filepath.Join(dir, entry.Name()))
			got = append(got, entry.Name()+"="+string(text))
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("it holds (-want +got):\n%s%v", diff, err)
		}
	}
	write(source, "a", "new")
	write(source, "b", "new")
	var archive bytes.Buffer
	if err := backup.Write(&archive, source, &backup.About{}); err != nil {
		t.Fatal(err)
	}
	write(dir, "a", "old")
	write(dir, "c", "old")
	if err := replaceContent(dir, bytes.NewReader(archive.Bytes()[:archive.Len()-1])); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("a broken archive: %v", err)
	}
	holds("a=old", "c=old")
	if err := replaceContent(dir, bytes.NewReader(archive.Bytes())); err != nil {
		t.Fatal(err)
	}
	holds("a=new", "b=new")
}
