package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/resources"
)

func (r *randomRun) node(o op) *machine { return pick(r.nodes(), o.n[0]) }

func (r *randomRun) server(o op) *machine { return pick(r.servers(), o.n[0]) }

// any is a node, or sometimes a server.
func (r *randomRun) any(o op) *machine {
	if o.n[1]%4 == 0 {
		return r.server(o)
	}
	return r.node(o)
}

func pick[T any](list []T, n int) T { return list[n%len(list)] }

// actions are what can happen, and how often.
var actions = map[string]struct {
	weight int
	do     func(r *randomRun, o op)
}{
	"put":       {12, (*randomRun).put},
	"scale":     {8, (*randomRun).scale},
	"revise":    {8, (*randomRun).revise},
	"delete":    {3, (*randomRun).remove},
	"drain":     {2, func(r *randomRun, o op) { r.avail(o, resources.NodeDrained) }},
	"cordon":    {1, func(r *randomRun, o op) { r.avail(o, resources.NodeCordoned) }},
	"uncordon":  {4, func(r *randomRun, o op) { r.avail(o, resources.NodeActive) }},
	"rebalance": {2, (*randomRun).rebalance},
	"kill":      {3, (*randomRun).kill},
	"boot":      {8, (*randomRun).boot},
	"restart":   {3, (*randomRun).restart},
	"cut":       {3, (*randomRun).cut},
	"part":      {2, (*randomRun).part},
	"heal":      {8, (*randomRun).heal},
	"delay":     {2, (*randomRun).delay},
	"crash":     {8, (*randomRun).crash},
	"fail":      {6, (*randomRun).fail},
	"mend":      {4, (*randomRun).mend},
	"stall":     {2, (*randomRun).stall},
	"resume":    {4, (*randomRun).resume},
	"depose":    {2, (*randomRun).depose},
	"lose":      {1, (*randomRun).lose},
	"forget":    {2, (*randomRun).forget},
	"join":      {2, (*randomRun).join},
	"clock":     {1, (*randomRun).clock},
	"nothing":   {6, func(*randomRun, op) {}},
}

// volumeOf are the volumes of services, each with a single writer: one that every
// node can mount, and one that stays on a node.
var volumeOf = map[string]resources.Volume{
	"db":    {Name: "shared", Driver: "plugin", Access: resources.SingleWriter},
	"cache": {Name: "local", Driver: resources.DriverLocal, Access: resources.SingleWriter},
}

var names = []string{"web", "db", "cache", "batch"}

// put makes a service, or changes all of it.
func (r *randomRun) put(o op) {
	name := pick(names, o.n[0])
	s := resources.Service{Name: name, Replicas: o.n[1] % 7, Template: resources.Template{Image: image(name, "1")}}
	s.Resources.CPU = pick([]resources.MilliCPU{50, 100, 250, 600}, o.n[2])
	s.Resources.Memory = pick([]resources.Bytes{64, 200, 700}, o.n[3]) * resources.MiB
	s.Placement = &resources.Placement{
		Priority: o.n[4] % 3, MaxReplicasPerNode: pick([]int{0, 0, 0, 1}, o.n[4]/3),
		Spread: pick([][]string{nil, {"zone"}}, o.n[4]/12), Constraints: pick([][]string{nil, nil, nil, {"zone == a"}}, o.n[4]/24),
	}
	s.Update.Order = pick([]string{resources.StopFirst, resources.StartFirst}, o.n[5])
	s.Update.OnFailure = pick([]string{resources.OnFailurePause, resources.OnFailureRollback}, o.n[5]/2)
	s.Update.MinReady = pick([]resources.Duration{0, 0, resources.Duration(5 * time.Second)}, o.n[5]/4)
	if o.n[6]%6 == 0 {
		s.Ports = []resources.Port{{Target: 8000 + o.n[6]/6%2}}
	}
	switch volume, has := volumeOf[name]; {
	case o.n[7]%8 == 0:
		s.Mode = resources.ModeGlobal
	case has && o.n[7]%8 > 2:
		s.Mounts = []resources.Mount{{Volume: volume.Name, Path: "/data"}}
		s.Replicas, s.Update.Order = min(s.Replicas, 1), resources.StopFirst
	}
	r.write(s)
}

func (r *randomRun) scale(o op) {
	if s, found := r.services[pick(names, o.n[0])]; found {
		s.Replicas = o.n[1] % 9
		r.write(s)
	}
}

// revise changes the image, now and then to one that can't run.
func (r *randomRun) revise(o op) {
	s, found := r.services[pick(names, o.n[0])]
	if !found {
		return
	}
	tag := fmt.Sprint(r.writes)
	if o.n[1]%5 == 0 {
		tag += "-broken"
	}
	s.Image = image(s.Name, tag)
	r.write(s)
}

func (r *randomRun) write(s resources.Service) {
	r.writes++
	s = numbered(s, r.writes)
	// Until it is acknowledged it may be there or not.
	r.holds.wrote(s.Name, r.writes, false)
	err := r.ask(func(ctx context.Context) error {
		_, err := r.PutService(ctx, s)
		return err
	})
	r.did("write %d: put %s, %d of %s: %v", r.writes, s.Name, s.Replicas, s.Image, err)
	if err == nil {
		r.services[s.Name] = s
		r.holds.wrote(s.Name, r.writes, true)
	}
}

func (r *randomRun) remove(o op) {
	name := pick(names, o.n[0])
	r.holds.wrote(name, 0, false)
	err := r.ask(func(ctx context.Context) error { return r.DeleteService(ctx, name) })
	r.did("delete %s: %v", name, err)
	if err == nil {
		delete(r.services, name)
		r.holds.wrote(name, 0, true)
	}
}

func (r *randomRun) avail(o op, a resources.Availability) {
	m := r.node(o)
	err := r.ask(func(ctx context.Context) error { return r.PutAvailability(ctx, m.id, a) })
	r.did("%s becomes %q: %v", m.name, a, err)
}

func (r *randomRun) rebalance(op) {
	err := r.ask(func(ctx context.Context) error {
		_, err := r.Rebalance(ctx, false)
		return err
	})
	r.did("rebalance: %v", err)
}

func (r *randomRun) kill(o op) {
	if m := r.any(o); m.isUp() {
		r.did("kill %s", m.name)
		damage := o.n[2]
		m.powerOff(func(id resources.ReplicaID) bool { return (len(id)+int(id[len(id)-1])+damage)%5 == 0 })
	}
}

// boot boots some machine that is down.
func (r *randomRun) boot(o op) {
	down := slices.DeleteFunc(append(r.nodes(), r.servers()...), (*machine).isUp)
	if len(down) > 0 {
		m := pick(down, o.n[0])
		r.did("boot %s", m.name)
		m.boot()
	}
}

// restart ends the processes of a machine, which begin again.
func (r *randomRun) restart(o op) {
	if m := r.any(o); m.isUp() {
		r.did("restart %s", m.name)
		m.kill()
		m.boot()
	}
}

// heal heals one machine, or everything.
func (r *randomRun) heal(o op) {
	r.network.change(func() {
		clear(r.network.pairs)
		clear(r.network.delay)
	})
	for _, m := range append(r.nodes(), r.servers()...) {
		if o.n[0]%2 == 0 || m == r.any(o) {
			r.did("heal %s", m.name)
			r.sever(m, false)
		}
	}
}

func (r *randomRun) cut(o op) {
	m := r.any(o)
	r.did("cut %s", m.name)
	r.sever(m, true)
}

// part cuts a machine off from one server.
func (r *randomRun) part(o op) {
	m, other := r.any(o), pick(r.servers(), o.n[2])
	r.did("cut %s from %s", m.name, other.name)
	r.separate(m, other, true)
}

func (r *randomRun) mend(o op) {
	m := r.node(o)
	r.did("mend %s", m.name)
	m.containers.mend()
}

// forget says of a node that is down that it never comes back.
func (r *randomRun) forget(o op) {
	down := slices.DeleteFunc(r.nodes(), (*machine).isUp)
	if len(down) == 0 {
		return
	}
	m := pick(down, o.n[0])
	// Until it is acknowledged it may be so or not.
	r.holds.forgot(m.id)
	err := r.ask(func(ctx context.Context) error { return r.DeleteNode(ctx, m.id) })
	r.did("forget %s: %v", m.name, err)
}

// join lets all nodes in again that were forgotten.
func (r *randomRun) join(op) {
	for _, m := range r.nodes() {
		if !slices.Contains(r.state().Cluster.Nodes, m.id) {
			r.did("let %s in: %v", m.name, r.admit(m.id))
		}
	}
}

// lose lets a commit succeed without an answer.
func (r *randomRun) lose(op) {
	r.did("lose the answer of a commit")
	r.members.lose(1)
}

func (r *randomRun) clock(o op) {
	m, ahead := r.node(o), time.Duration(o.n[1]-1<<15)*time.Second
	r.did("set the clock of %s %s ahead", m.name, ahead)
	m.containers.setClock(ahead)
}

func (r *randomRun) delay(o op) {
	m := r.node(o)
	r.did("delay %s by %dms", m.name, o.n[1]%500)
	r.network.change(func() { r.network.delay[m] = time.Duration(o.n[1]%500) * time.Millisecond })
}

func (r *randomRun) crash(o op) {
	m := r.node(o)
	for _, one := range m.containers.replicas() {
		if one.Running && m.containers.crash(one.replica.Service, one.replica.Slot, 1+o.n[1]%3) {
			r.did("crash %s on %s", one.ID, m.name)
			return
		}
	}
}

// fail makes a step fail a few times, or take long, or fail although it was
// done.
func (r *randomRun) fail(o op) {
	f := fault{step: pick([]string{"pull", "create", "start", "stop", "remove", "list"}, o.n[1]), times: 1 + o.n[2]%5}
	switch o.n[3] % 4 {
	case 0:
		f.takes, f.slow = time.Duration(o.n[4]%40)*time.Second, true
	case 1:
		f.late = f.step != "list"
	case 2:
		f.takes = time.Duration(o.n[4]%5) * time.Second
	}
	m := r.node(o)
	r.did("fail %s on %s: %+v", f.step, m.name, f)
	m.containers.fail(f)
}

// stall stops the leader's process, until it is resumed.
func (r *randomRun) stall(op) {
	if m := r.election.who(); m != nil && !m.isStopped() && m.serves() {
		r.did("stop %s", m.name)
		m.pause()
	}
}

func (r *randomRun) resume(op) {
	r.did("resume")
	for _, m := range r.servers() {
		m.resume()
	}
}

// depose restarts the server that leads, so that another one does.
func (r *randomRun) depose(op) {
	if m := r.election.who(); m != nil && m.isUp() {
		r.did("restart %s, which leads", m.name)
		m.kill()
		m.boot()
	}
}
