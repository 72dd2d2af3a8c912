package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// storing is a service of one replica that mounts volumes.
func storing(name string, volumes ...string) resources.Service {
	s := web(1)
	s.Name = name
	for _, volume := range volumes {
		s.Mounts = append(s.Mounts, resources.Mount{Volume: volume, Path: "/" + volume})
	}
	return s
}

func TestVolumesAreKept(t *testing.T) {
	c := start(t, &store.Memory{})
	ctx := t.Context()
	data, err := c.PutVolume(ctx, resources.Volume{Name: "data", RetainOnDestroy: true})
	want := resources.VolumeStatus{Volume: resources.Volume{Name: "data", Driver: "local", Access: "single-writer", RetainOnDestroy: true}}
	if diff := cmp.Diff(want, data, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("the put (-want +got):\n%s%v", diff, err)
	}
	_, err = c.PutVolume(ctx, resources.Volume{Name: "other", Driver: "nfs"})
	refused(t, err, http.StatusUnprocessableEntity, "nfs: is missing", "nfs.server")

	if _, err := c.PutService(ctx, storing("db", "data")); err != nil {
		t.Fatal(err)
	}
	if read, err := c.Volume(ctx, "data"); err != nil || !slices.Equal(read.Services, []string{"db"}) {
		t.Errorf("it reads %+v, %v", read, err)
	}
	refused(t, c.DeleteVolume(ctx, "data"), http.StatusConflict, "volume data can't be removed", "db")
	_, err = c.PutVolume(ctx, resources.Volume{Name: "data", Driver: "plugin"})
	refused(t, err, http.StatusConflict, "another place", "db")
	if changed, err := c.PutVolume(ctx, resources.Volume{Name: "data"}); err != nil || changed.Volume.RetainOnDestroy {
		t.Errorf("its data need not be kept: %+v, %v", changed, err)
	}
	if err := c.DeleteService(ctx, "db"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"data", "nothing"} {
		if err := c.DeleteVolume(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if _, err := c.Volume(ctx, "data"); !api.IsNotFound(err) {
		t.Errorf("after the removal: %v", err)
	}
}

// What could never run is refused, with every attribute that is in the way.
func TestMountsThatCantBe(t *testing.T) {
	c := start(t, &store.Memory{})
	ctx := t.Context()
	for _, v := range []resources.Volume{{Name: "one"}, {Name: "many", Access: "multi-writer"}, {Name: "plugin", Driver: "plugin"}} {
		if _, err := c.PutVolume(ctx, v); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.PutService(ctx, storing("db", "one")); err != nil {
		t.Fatal(err)
	}
	scaled, surging, global, sub := storing("web", "plugin"), storing("web", "plugin"), storing("web", "many"), storing("web", "plugin")
	scaled.Replicas = 3
	surging.Update.Order = resources.StartFirst
	global.Mode = resources.ModeGlobal
	sub.Mounts[0].Subpath = "a"
	for name, refusal := range map[string]struct {
		service resources.Service
		words   []string
	}{
		"no such volume":       {storing("web", "none"), []string{"mounts[0].volume: is none", "many, one, plugin", "skerry_volume"}},
		"several writers":      {scaled, []string{"replicas: is 3", "volume plugin has a single writer", "multi-writer"}},
		"two at a rollout":     {surging, []string{"update: starts a new replica beside the old one", "stop-first"}},
		"somebody else's":      {storing("web", "one"), []string{"mounts[0].volume: is one, which service db mounts already"}},
		"on every node":        {global, []string{"mounts[0].volume: is many", "global service"}},
		"a part of a plugin's": {sub, []string{"mounts[0].subpath", "plugin"}},
	} {
		_, err := c.PutService(ctx, refusal.service)
		t.Log(name)
		refused(t, err, http.StatusUnprocessableEntity, refusal.words...)
	}
	_, err := c.PutVolume(ctx, resources.Volume{Name: "many"})
	if err != nil {
		t.Errorf("a single writer for one that nobody mounts: %v", err)
	}
}

// Data that a node has kept is nobody's by accident.
func TestKeptDataIsAdopted(t *testing.T) {
	c := start(t, &store.Memory{})
	ctx := t.Context()
	if _, err := c.AdoptVolume(ctx, "data"); !api.IsNotFound(err) {
		t.Errorf("no data: %v", err)
	}
	kept := resources.Volume{Name: "data", Driver: "local", Access: "multi-writer", RetainOnDestroy: true}
	n1 := nodeInfo("n1")
	n1.Volumes = []resources.Volume{kept}
	c.byHand(t, n1)
	_, err := c.PutVolume(ctx, resources.Volume{Name: "data"})
	refused(t, err, http.StatusConflict, "node n1", "retain_on_destroy", "import")
	if got, err := c.AdoptVolume(ctx, "data"); err != nil || got.Node != "n1" || !cmp.Equal(got.Volume, kept, cmpopts.EquateEmpty()) {
		t.Errorf("it is %+v, %v", got, err)
	}
	n2 := nodeInfo("n2")
	n2.Volumes = []resources.Volume{{Name: "data"}, {Name: "twice"}}
	n1.Volumes = append(n1.Volumes, resources.Volume{Name: "twice"})
	c.byHand(t, n1)
	c.byHand(t, n2)
	_, err = c.AdoptVolume(ctx, "twice")
	refused(t, err, http.StatusConflict, "n1, n2")
}

func TestWhoMountsWhat(t *testing.T) {
	record := func(v resources.Volume, node resources.NodeID) store.Change {
		return store.PutVolume(resources.VolumeRecord{Volume: v, Node: node})
	}
	replica := func(id, node string, volumes ...string) resources.Replica {
		return resources.Replica{ID: resources.ReplicaID(id), Service: "db", Node: resources.NodeID(node), Template: storing("db", volumes...).Template}
	}
	state := (&store.State{}).With(
		store.PutNode(nodeInfo("n1")), record(resources.Volume{Name: "one", Driver: "plugin"}, ""), record(resources.Volume{Name: "new", Access: "multi-writer"}, ""),
		record(resources.Volume{Name: "many", Driver: "plugin", Access: "multi-writer"}, ""),
		store.PutReplica(replica("db-0-old", "n1", "one", "many")),
	)
	m := mountsOf(state)
	for _, c := range []struct {
		replica resources.Replica
		want    string
	}{
		{replica("db-0-a", "", "one"), "volume one has a single writer, and replica db-0-old has it on node n1 until nothing of it is left there; where that node never comes back, say so: skerry node forget n1"},
		{replica("db-0-b", "", "many"), ""},
		{replica("db-0-c", "", "many", "new"), ""},
		{replica("db-0-d", "", "new"), "volume new gets its node with replica db-0-c first"},
		{replica("db-0-e", "", "absent"), "there is no volume absent"},
	} {
		if got := m.claim(&c.replica); got != c.want {
			t.Errorf("%s: %q, want %q", c.replica.ID, got, c.want)
		}
	}
	var bound []resources.NodeID
	for _, change := range settle(state, replica("db-0-c", "n1", "many", "new")) {
		state = state.With(change)
	}
	for _, name := range []string{"new", "many", "one"} {
		bound = append(bound, state.Volumes[name].Node)
	}
	if diff := cmp.Diff([]resources.NodeID{"n1", "", ""}, bound); diff != "" {
		t.Errorf("nodes of volumes (-want +got):\n%s", diff)
	}
}

// Data that is there has the size that it was given, or more.
func TestTheSizeOfAVolume(t *testing.T) {
	kept := &store.Memory{}
	c := start(t, kept)
	ctx := t.Context()
	for _, v := range []resources.Volume{{Name: "nfs", Driver: "nfs", NFS: &resources.NFS{Server: "a", Path: "/a"}, Size: resources.GiB}, {Name: "plugin", Driver: "plugin", Size: resources.GiB}, {Name: "tiny", Size: resources.MiB}} {
		_, err := c.PutVolume(ctx, v)
		refused(t, err, http.StatusUnprocessableEntity, "size")
	}
	put := func(name string, size resources.Bytes) error {
		_, err := c.PutVolume(ctx, resources.Volume{Name: name, Size: size})
		return err
	}
	// Before anybody has used them, sizes are free.
	for _, err := range []error{put("sized", 2*resources.GiB), put("sized", resources.GiB), put("shares", 0), put("shares", resources.GiB), put("shares", 0)} {
		if err != nil {
			t.Error(err)
		}
	}
	c.byHand(t, nodeInfo("n1"))
	used := func(v resources.Volume) {
		t.Helper()
		v.SetDefaults()
		state, err := kept.Load(ctx)
		if err == nil {
			err = kept.Commit(ctx, state, []store.Change{store.PutVolume(resources.VolumeRecord{Volume: v, Node: "n1"})})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	used(resources.Volume{Name: "sized", Size: resources.GiB})
	used(resources.Volume{Name: "shares"})
	refused(t, put("sized", resources.GiB/2), http.StatusUnprocessableEntity, "size: was 1GiB, and volume sized on node n1 can't shrink")
	refused(t, put("sized", 0), http.StatusUnprocessableEntity, "can't shrink")
	refused(t, put("shares", resources.GiB), http.StatusUnprocessableEntity, "size: can't be given to volume shares, which shares the disk of node n1")
	if err := put("sized", 2*resources.GiB); err != nil {
		t.Errorf("it grows: %v", err)
	}
}

// A rollout never goes back to what could not run any more.
func TestNothingGoesBackToAVolumeThatItCantHave(t *testing.T) {
	state := (&store.State{}).With(
		store.PutVolume(resources.VolumeRecord{Volume: resources.Volume{Name: "one"}}),
		store.PutVolume(resources.VolumeRecord{Volume: resources.Volume{Name: "many", Access: resources.MultiWriter}}),
	)
	for _, c := range []struct {
		volume   string
		replicas int
		back     bool
	}{{"one", 1, true}, {"one", 4, false}, {"many", 4, true}, {"none", 1, false}} {
		record := resources.ServiceRecord{Service: web(c.replicas), Revision: 2, Stable: &resources.Revision{Number: 1, Template: storing("web", c.volume).Template}}
		if got := goneBackTo(state, record); (got != nil) != c.back {
			t.Errorf("%d replicas that go back to volume %s: %+v", c.replicas, c.volume, got)
		}
	}
}

// The data of a volume that is on no node is reached where a replica mounts it.
func TestWhoReachesAVolumeOnNoNode(t *testing.T) {
	shared := resources.Volume{Name: "shared", Driver: "plugin"}
	replica := func(id, node string) store.Change {
		return store.PutReplica(resources.Replica{ID: resources.ReplicaID(id), Service: "db", Node: resources.NodeID(node), Template: storing("db", "shared").Template})
	}
	state := (&store.State{}).With(store.PutNode(nodeInfo("n1")), store.PutNode(nodeInfo("n2")), store.PutVolume(resources.VolumeRecord{Volume: shared}), replica("db-0-waits", ""))
	for _, c := range []struct {
		name    string
		state   *store.State
		pause   bool
		on      resources.NodeID
		refused string
	}{
		{"nobody", state, false, "", "no replica mounts volume shared now"},
		{"whom a forgotten node had", state.With(replica("db-0-a", "gone")), false, "", "no replica mounts volume shared now"},
		{"one", state.With(replica("db-0-a", "n2")), true, "n2", ""},
		{"two", state.With(replica("db-0-a", "n2"), replica("db-1-b", "n1")), false, "n1", ""},
		{"two who are to pause", state.With(replica("db-0-a", "n2"), replica("db-1-b", "n1")), true, "", "on several nodes: n1, n2"},
	} {
		node, err := mountingNode(c.state, shared, c.pause)
		if node.ID != c.on || (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: node %q, %v", c.name, node.ID, err)
		}
	}
}
