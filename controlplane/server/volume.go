package server

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func volumeStatus(state *store.State, name string) resources.VolumeStatus {
	record := state.Volumes[name]
	status := resources.VolumeStatus{
		Volume: record.Volume, Node: record.Node, NodeName: nodeName(state, record.Node),
		Services: servicesMounting(state, name), Deleting: record.Deleting,
	}
	for _, r := range sortedReplicas(state) {
		if r.Node != "" && slices.Contains(r.Template.VolumeNames(), name) {
			status.Replicas = append(status.Replicas, r.ID)
		}
	}
	return status
}

// nodeName is what people call a node; its ID where it is not in the cluster.
func nodeName(state *store.State, id resources.NodeID) string {
	if node, found := state.Nodes[id]; found {
		return node.Name
	}
	return string(id)
}

// servicesMounting names the services that mount a volume, sorted: they do now,
// or would again by a rollback, or a replica of theirs has yet to leave it.
func servicesMounting(state *store.State, volume string) []string {
	all := map[string]bool{}
	for name, record := range state.Services {
		if slices.Contains(record.Service.VolumeNames(), volume) || record.Stable != nil && slices.Contains(record.Stable.Template.VolumeNames(), volume) {
			all[name] = true
		}
	}
	for _, r := range state.Replicas.All() {
		if slices.Contains(r.Template.VolumeNames(), volume) {
			all[r.Service] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (s *Server) putVolume(r *http.Request) (any, error) {
	volume, err := body(r, func(x *resources.Volume) string { return x.Name })
	if err != nil {
		return nil, err
	}
	return s.storeVolume(r, func(state *store.State) (resources.VolumeRecord, error) {
		record, found := state.Volumes[volume.Name]
		if !found {
			if on := dataOf(state, volume.Name); volume.Local() && len(on) > 0 {
				return record, api.Errorf(http.StatusConflict, "the data of a volume %s is on node %s, kept when that volume was destroyed (retain_on_destroy): import it, or give this one another name", volume.Name, nodeNames(state, on))
			}
			return resources.VolumeRecord{Volume: volume}, nil
		}
		if err := checkChange(state, record, volume); err != nil {
			return record, err
		}
		record.Volume = volume
		return record, nil
	})
}

// storeVolume stores what plan makes of the state, and gives its status.
func (s *Server) storeVolume(r *http.Request, plan func(*store.State) (resources.VolumeRecord, error)) (any, error) {
	var state *store.State
	var name string
	err := s.relate(r.Context(), func(now *store.State) ([]store.Change, error) {
		record, err := plan(now)
		if err != nil {
			return nil, err
		}
		name = record.Volume.Name
		change := store.PutVolume(record)
		state = now.With(change)
		if old, found := now.Volumes[name]; found && same(old, record) {
			return nil, nil
		}
		return []store.Change{change}, nil
	})
	if err != nil {
		return nil, err
	}
	return volumeStatus(state, name), nil
}

// checkChange refuses what can't become of a volume while it is used.
func checkChange(state *store.State, record resources.VolumeRecord, volume resources.Volume) error {
	old, name := record.Volume, volume.Name
	if record.Deleting {
		return api.Errorf(http.StatusConflict, "volume %s is being removed from node %s; wait until it is gone", name, nodeName(state, record.Node))
	}
	where := func(v resources.Volume) resources.Volume {
		return resources.Volume{Driver: v.Driver, NFS: v.NFS, Options: v.Options}
	}
	if err := checkSize(state, record, volume); err != nil {
		return err
	}
	mounting := servicesMounting(state, name)
	if !same(where(old), where(volume)) && len(mounting) > 0 {
		return api.Errorf(http.StatusConflict, "volume %s can't become another place while services mount it: %s; remove them first, or make another volume", name, strings.Join(mounting, ", "))
	}
	next := state.With(store.PutVolume(resources.VolumeRecord{Volume: volume, Node: record.Node}))
	for _, service := range mounting {
		if record := state.Services[service]; !record.Deleting {
			if err := checkVolumes(next, record.Service); err != nil {
				return api.Errorf(http.StatusConflict, "volume %s can't change so while service %s mounts it: %v", name, service, err)
			}
		}
	}
	return nil
}

// checkSize refuses a size that data which is there already can't have.
func checkSize(state *store.State, record resources.VolumeRecord, volume resources.Volume) error {
	old := record.Volume.Size
	p := resources.Problems{}
	switch node := nodeName(state, record.Node); {
	case record.Node == "" || volume.Size == old:
	case old == 0:
		p.Addf("size", "can't be given to volume %s, which shares the disk of node %s already; make another volume with a size, and restore a backup of this one there", volume.Name, node)
	case volume.Size < old:
		p.Addf("size", "was %s, and volume %s on node %s can't shrink; make a smaller volume, and restore a backup of this one there", old, volume.Name, node)
	}
	if len(p) == 0 {
		return nil
	}
	return api.Invalid(p)
}

// dataOf gives the nodes that have data of a local volume, sorted.
func dataOf(state *store.State, name string) []resources.NodeID {
	var on []resources.NodeID
	for id, node := range state.Nodes {
		if slices.ContainsFunc(node.Volumes, func(v resources.Volume) bool { return v.Name == name }) {
			on = append(on, id)
		}
	}
	slices.Sort(on)
	return on
}

func nodeNames(state *store.State, ids []resources.NodeID) string {
	var names []string
	for _, id := range ids {
		names = append(names, nodeName(state, id))
	}
	return strings.Join(names, ", ")
}

// adoptVolume makes a volume again of the data that a node has kept.
func (s *Server) adoptVolume(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return s.storeVolume(r, func(state *store.State) (resources.VolumeRecord, error) {
		if record, found := state.Volumes[name]; found {
			return record, nil
		}
		on := dataOf(state, name)
		switch len(on) {
		case 0:
			return resources.VolumeRecord{}, api.Errorf(http.StatusNotFound, "there is no volume %s, and no node of the cluster has kept data of one", name)
		case 1:
		default:
			return resources.VolumeRecord{}, api.Errorf(http.StatusConflict, "several nodes have kept data of a volume %s: %s; remove it from all but one, in /var/lib/skerry/volumes", name, nodeNames(state, on))
		}
		kept := state.Nodes[on[0]].Volumes
		i := slices.IndexFunc(kept, func(v resources.Volume) bool { return v.Name == name })
		return resources.VolumeRecord{Volume: kept[i], Node: on[0]}, nil
	})
}

// deleteVolume removes a volume that no service mounts. Where its data goes too,
// its node has to say so first.
func (s *Server) deleteVolume(r *http.Request) (any, error) {
	name := r.PathValue("name")
	return nil, s.relate(r.Context(), func(state *store.State) ([]store.Change, error) {
		record, found := state.Volumes[name]
		if !found || record.Deleting {
			return nil, nil
		}
		if mounting := servicesMounting(state, name); len(mounting) > 0 {
			return nil, api.Errorf(http.StatusConflict, "volume %s can't be removed while services mount it: %s; remove them first, or take it out of their mounts", name, strings.Join(mounting, ", "))
		}
		if _, there := state.Nodes[record.Node]; !there || record.Volume.RetainOnDestroy {
			return []store.Change{store.DeleteVolume(name)}, nil
		}
		record.Deleting = true
		return []store.Change{store.PutVolume(record)}, nil
	})
}

// volumeRemoved hears from a node that nothing is left there of a volume that it
// was to remove.
func (s *Server) volumeRemoved(r *http.Request) (any, error) {
	id, name := resources.NodeID(r.PathValue("id")), r.PathValue("name")
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		if record, found := state.Volumes[name]; !found || !record.Deleting || record.Node != id {
			return nil, nil
		}
		return []store.Change{store.DeleteVolume(name)}, nil
	})
	if err == nil {
		s.events.add("volume/"+name, "Removed", "its data is gone", time.Now())
	}
	return nil, err
}

// volumesLeft removes the volumes that are to go, and whose node has left the
// cluster before it said that nothing is left of them.
func volumesLeft(state *store.State) []store.Change {
	var changes []store.Change
	for _, name := range slices.Sorted(maps.Keys(state.Volumes)) {
		record := state.Volumes[name]
		if _, there := state.Nodes[record.Node]; record.Deleting && !there {
			changes = append(changes, store.DeleteVolume(name))
		}
	}
	return changes
}

// checkVolumes refuses a service whose mounts can't be.
func checkVolumes(state *store.State, service resources.Service) error {
	var p resources.Problems
	for i, mount := range service.Mounts {
		at := fmt.Sprintf("mounts[%d].volume", i)
		record, found := state.Volumes[mount.Volume]
		volume := record.Volume
		switch {
		case !found:
			known := strings.Join(slices.Sorted(maps.Keys(state.Volumes)), ", ")
			if known == "" {
				known = "none"
			}
			p.Addf(at, "is %s, and the cluster has no volume of that name, but: %s; make it a skerry_volume", mount.Volume, known)
			continue
		case record.Deleting:
			p.Addf(at, "is %s, which is being removed", mount.Volume)
			continue
		case mount.Subpath != "" && !volume.Local() && volume.Driver != resources.DriverNFS:
			p.Addf(fmt.Sprintf("mounts[%d].subpath", i), "is for the drivers local and nfs, and volume %s has the driver %s; leave it out", mount.Volume, volume.Driver)
		}
		if service.Mode == resources.ModeGlobal && (volume.Single() || volume.Local()) {
			p.Addf(at, "is %s, which one node at a time mounts, and a global service runs on every node; take a volume of the driver nfs with access = %q", mount.Volume, resources.MultiWriter)
			continue
		}
		if volume.Single() {
			checkSingle(&p, state, service, at, mount.Volume)
		}
	}
	if len(p) == 0 {
		return nil
	}
	return api.Invalid(p)
}

// goneBackTo is the revision that a rollout goes back to where the present one can't
// run; none where the service is one by now that could not mount its volumes.
func goneBackTo(state *store.State, record resources.ServiceRecord) *resources.Revision {
	if record.Stable == nil {
		return nil
	}
	back := record.Service
	back.Template = record.Stable.Template
	if checkVolumes(state, back) != nil {
		return nil
	}
	return record.Stable
}

// checkSingle refuses a service that could never have one replica alone on the
// volume.
func checkSingle(p *resources.Problems, state *store.State, service resources.Service, at, volume string) {
	if service.Autoscale != nil && service.Most() > 1 {
		p.Addf("autoscale.max", "is %d, and volume %s has a single writer: it is mounted by one replica at a time; give 1, or make the volume's access %q", service.Most(), volume, resources.MultiWriter)
	} else if service.Most() > 1 {
		p.Addf("replicas", "is %d, and volume %s has a single writer: it is mounted by one replica at a time; run 1, or make the volume's access %q", service.Replicas, volume, resources.MultiWriter)
	}
	if service.Update.Budget(1).Surge > 0 {
		p.Addf("update", "starts a new replica beside the old one, and volume %s has a single writer; leave out max_surge, and let order be %q", volume, resources.StopFirst)
	}
	for _, name := range slices.Sorted(maps.Keys(state.Services)) {
		other := state.Services[name]
		if name != service.Name && !other.Deleting && slices.Contains(other.Service.VolumeNames(), volume) {
			p.Addf(at, "is %s, which service %s mounts already, and it has a single writer; take another volume, or make its access %q", volume, name, resources.MultiWriter)
		}
	}
}

// volumesFor gives the volumes that a node has something to do with, by name.
func volumesFor(state *store.State, id resources.NodeID) []resources.AssignedVolume {
	if len(state.Volumes) == 0 {
		return nil
	}
	mounted := map[string]bool{}
	for _, r := range state.ReplicasOn(id) {
		for _, name := range r.Template.VolumeNames() {
			mounted[name] = true
		}
	}
	var all []resources.AssignedVolume
	for _, name := range slices.Sorted(maps.Keys(state.Volumes)) {
		if record := state.Volumes[name]; record.Node == id || mounted[name] {
			all = append(all, resources.AssignedVolume{Volume: record.Volume, Remove: record.Deleting && record.Node == id})
		}
	}
	return all
}
