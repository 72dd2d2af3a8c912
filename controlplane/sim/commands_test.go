package sim

import (
	"context"
	"encoding"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// commands are the words that a line begins with.
var commands = map[string]func(s *scenario, words []string) []string{
	"servers":   func(*scenario, []string) []string { return nil },
	"nodes":     (*scenario).addNodes,
	"service":   (*scenario).putService,
	"load":      (*scenario).putLoad,
	"delete":    (*scenario).deleteService,
	"volume":    (*scenario).putVolume,
	"forget":    (*scenario).forget,
	"join":      (*scenario).join,
	"advance":   (*scenario).advance,
	"status":    (*scenario).status,
	"show":      (*scenario).show,
	"drain":     availability(resources.NodeDrained),
	"cordon":    availability(resources.NodeCordoned),
	"uncordon":  availability(resources.NodeActive),
	"rebalance": (*scenario).rebalance,
	"crash":     (*scenario).crash,
	"fail":      (*scenario).fail,
	"slow":      (*scenario).fail,
	"mend":      onNodes(func(m *machine) { m.containers.mend() }),
	"kill":      onMachines(func(m *machine) { m.powerOff(nothing) }),
	"boot":      onMachines((*machine).boot),
	"restart":   onMachines(func(m *machine) { m.kill(); m.boot() }),
	"cut":       onMachines(func(m *machine) { m.cluster.sever(m, true) }),
	"part": func(s *scenario, words []string) []string {
		s.separate(s.get(words[0]), s.get(words[1]), true)
		return nil
	},
	"heal":   onMachines(func(m *machine) { m.cluster.sever(m, false) }),
	"clock":  (*scenario).clock,
	"stall":  (*scenario).stall,
	"stop":   onMachines((*machine).pause),
	"resume": onMachines((*machine).resume),
}

func nothing(resources.ReplicaID) bool { return false }

func onMachines(do func(m *machine)) func(s *scenario, words []string) []string {
	return func(s *scenario, words []string) []string {
		for _, name := range words {
			do(s.get(name))
		}
		return nil
	}
}

func onNodes(do func(m *machine)) func(s *scenario, words []string) []string {
	return func(s *scenario, _ []string) []string {
		for _, m := range s.nodes() {
			do(m)
		}
		return nil
	}
}

// get finds a machine; "leader" is that of the server that leads.
func (s *scenario) get(name string) *machine {
	s.Helper()
	m := s.machine(name)
	if name == "leader" {
		m = s.election.who()
	}
	if m == nil {
		s.Fatalf("there is no machine %q", name)
	}
	return m
}

func (s *scenario) number(text string) int {
	s.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *scenario) duration(text string) time.Duration {
	s.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// parse reads a value that has a text form.
func parse[T encoding.TextUnmarshaler](s *scenario, value T, text string) {
	s.Helper()
	if err := value.UnmarshalText([]byte(text)); err != nil {
		s.Fatal(err)
	}
}

func (s *scenario) addNodes(words []string) []string {
	capacity := resources.Capacity{CPU: 2000, Memory: 4 * resources.GiB, Disk: 100 * resources.GiB}
	labels := map[string]string{}
	var taints []string
	for _, setting := range words[1:] {
		switch key, value, _ := strings.Cut(setting, "="); key {
		case "cpu":
			parse(s, &capacity.CPU, value)
		case "memory":
			parse(s, &capacity.Memory, value)
		case "taint":
			taints = append(taints, value)
		default:
			labels[key] = value
		}
	}
	// An agent keeps these for its system.
	capacity.CPU, capacity.Memory = capacity.CPU+100, capacity.Memory+256*resources.MiB
	for range s.number(words[0]) {
		m, err := s.newNode(fmt.Sprintf("node-%d", len(s.nodes())+1), capacity, labels, taints)
		if err != nil {
			s.Fatal(err)
		}
		m.boot()
		time.Sleep(apart)
		synctest.Wait()
	}
	return nil
}

// apart is the time between the boots of two nodes, so that their heartbeats
// come one after the other.
const apart = 700 * time.Millisecond

func (s *scenario) putService(words []string) []string {
	name := words[0]
	service, found := s.services[name]
	if !found {
		service = resources.Service{Name: name, Replicas: 1, Template: resources.Template{Image: image(name, "1")}}
	}
	for _, setting := range words[1:] {
		key, value, _ := strings.Cut(setting, "=")
		s.set(&service, key, value)
	}
	s.services[name] = service
	return problem(s.ask(func(ctx context.Context) error {
		_, err := s.PutService(ctx, service)
		return err
	}))
}

func image(service, tag string) string { return "docker.io/library/" + service + ":" + tag }

// set sets an attribute of a service.
func (s *scenario) set(service *resources.Service, key, value string) {
	s.Helper()
	place := func() *resources.Placement {
		copied := resources.Placement{}
		if service.Placement != nil {
			copied = *service.Placement
		}
		service.Placement = &copied
		return service.Placement
	}
	scale := func() *resources.Autoscale {
		copied := resources.Autoscale{Min: 1}
		if service.Autoscale != nil {
			copied = *service.Autoscale
		}
		service.Autoscale = &copied
		return service.Autoscale
	}
	switch key {
	case "replicas":
		service.Replicas = s.number(value)
	case "scale":
		from, to, _ := strings.Cut(value, "..")
		scale().Min, scale().Max = s.number(from), s.number(to)
	case "scale_cpu":
		scale().CPU = s.number(value)
	case "scale_down_window":
		scale().Down = &resources.ScaleDown{}
		parse(s, &scale().Down.Window, value)
	case "cpu":
		parse(s, &service.Resources.CPU, value)
	case "memory":
		parse(s, &service.Resources.Memory, value)
	case "volume":
		service.Mounts = []resources.Mount{{Volume: value, Path: "/data"}}
	case "port":
		service.Ports = []resources.Port{{Target: s.number(value)}}
	case "image":
		service.Image = image(service.Name, value)
	case "mode":
		service.Mode = value
	case "restart":
		service.Restart = value
	case "order":
		service.Update.Order = value
	case "surge":
		parse(s, &service.Update.MaxSurge, value)
	case "unavailable":
		parse(s, &service.Update.MaxUnavailable, value)
	case "min_ready":
		parse(s, &service.Update.MinReady, value)
	case "deadline":
		parse(s, &service.Update.ProgressDeadline, value)
	case "on_failure":
		service.Update.OnFailure = value
	case "constraint":
		place().Constraints = []string{value}
	case "spread":
		place().Spread = []string{value}
	case "priority":
		place().Priority = s.number(value)
	case "max":
		place().MaxReplicasPerNode = s.number(value)
	default:
		s.Fatalf("a service has no %q", key)
	}
}

// putLoad says what is asked of a service, as in "load web 300m".
func (s *scenario) putLoad(words []string) []string {
	var load resources.MilliCPU
	parse(s, &load, words[1])
	s.demands(words[0], float64(load))
	return nil
}

func problem(err error) []string {
	if err == nil {
		return nil
	}
	return []string{"error: " + plain(err.Error())}
}

// suffix is what makes the ID of a replica unique.
var suffix = regexp.MustCompile(`([a-z]+)-([0-9]+)-[a-z0-9]{6}\b`)

// plain writes replicas as people here name them, and all on one line.
func plain(text string) string {
	return suffix.ReplaceAllString(strings.ReplaceAll(text, "\n", " / "), "$1.$2")
}

func (s *scenario) deleteService(words []string) []string {
	delete(s.services, words[0])
	return problem(s.ask(func(ctx context.Context) error { return s.DeleteService(ctx, words[0]) }))
}

// putVolume makes a volume, as in "volume rows plugin".
func (s *scenario) putVolume(words []string) []string {
	return problem(s.ask(func(ctx context.Context) error {
		_, err := s.PutVolume(ctx, resources.Volume{Name: words[0], Driver: words[1]})
		return err
	}))
}

// forget says of nodes that they are gone for good.
func (s *scenario) forget(words []string) []string {
	var all []string
	for _, name := range words {
		all = append(all, problem(s.ask(func(ctx context.Context) error { return s.DeleteNode(ctx, s.get(name).id) }))...)
	}
	return all
}

// join lets nodes in that were forgotten.
func (s *scenario) join(words []string) []string {
	for _, name := range words {
		if err := s.admit(s.get(name).id); err != nil {
			s.Fatal(err)
		}
	}
	return nil
}

func availability(a resources.Availability) func(s *scenario, words []string) []string {
	return func(s *scenario, words []string) []string {
		var all []string
		for _, name := range words {
			all = append(all, problem(s.ask(func(ctx context.Context) error {
				return s.PutAvailability(ctx, s.get(name).id, a)
			}))...)
		}
		return all
	}
}

// rebalance asks for one, and tells what is to move.
func (s *scenario) rebalance([]string) []string {
	var said resources.Rebalance
	all := problem(s.ask(func(ctx context.Context) (err error) {
		said, err = s.Rebalance(ctx, false)
		return err
	}))
	for _, m := range said.Moves {
		slot := strings.Split(string(m.Replica), "-")
		all = append(all, fmt.Sprintf("%s.%s is to move from %s to %s, since %s", slot[0], slot[1], m.From, m.To, m.Reason))
	}
	return all
}

// crash ends the container of a replica, as in "crash web.0".
func (s *scenario) crash(words []string) []string {
	for _, word := range words {
		service, slot, _ := strings.Cut(word, ".")
		crashed := slices.ContainsFunc(s.nodes(), func(m *machine) bool {
			return m.isUp() && m.containers.crash(service, s.number(slot), 3)
		})
		if !crashed {
			return []string{"nothing of " + word + " runs"}
		}
		synctest.Wait()
	}
	return nil
}

// fail makes steps fail, as in "fail pull web times=2", or take long, as in
// "slow pull web takes=30s".
func (s *scenario) fail(words []string) []string {
	f := fault{step: words[0], service: words[1], times: -1}
	for _, setting := range words[2:] {
		switch key, value, _ := strings.Cut(setting, "="); key {
		case "times":
			f.times = s.number(value)
		case "takes":
			f.takes, f.slow = s.duration(value), true
		case "image":
			f.image = image(f.service, value)
		default:
			s.Fatalf("a fault has no %q", key)
		}
	}
	for _, m := range s.nodes() {
		m.containers.fail(f)
	}
	return nil
}

func (s *scenario) clock(words []string) []string {
	s.get(words[0]).containers.setClock(s.duration(words[1]))
	return nil
}

// stall stops the processes of the leader for a while.
func (s *scenario) stall(words []string) []string {
	m := s.get(words[0])
	m.pause()
	lines := s.advance(words[1:])
	m.resume()
	return lines
}

// advance lets time go by, and tells what happens meanwhile.
func (s *scenario) advance(words []string) []string {
	var lines []string
	for passed := time.Second; passed <= s.duration(words[0]); passed += time.Second {
		time.Sleep(time.Second)
		synctest.Wait()
		lines = append(lines, s.news(fmt.Sprintf("+%s ", passed))...)
	}
	return lines
}
