package sim

import (
	"context"
	"encoding"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var update = flag.Bool("update", false, "write the scenarios anew")

// The files in testdata are the specification, comments included. A line that
// is not indented is what happens, and the indented lines below it are what can
// be seen of it. README.md there says which words there are.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got, "\n")); diff != "" && !*update {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// play writes the script anew, with what happens now.
func play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	simulate(t, 1, func(t *testing.T, c *cluster) {
		s := &scenario{T: t, cluster: c, services: map[string]resources.Service{}, told: map[resources.Event]bool{}}
		for line := range strings.Lines(script) {
			switch {
			case strings.HasPrefix(line, " "):
				continue
			case strings.HasPrefix(line, "#") || line == "\n":
				out.WriteString(line)
				continue
			}
			out.WriteString(line)
			for _, seen := range s.act(strings.Fields(line)) {
				fmt.Fprintf(&out, "    %s\n", seen)
			}
		}
	})
	return out.String()
}

// scenario plays one file.
type scenario struct {
	*testing.T
	*cluster
	services map[string]resources.Service
	told     map[resources.Event]bool
}

// act carries out one line, and returns what is seen of it.
func (s *scenario) act(words []string) []string {
	s.Helper()
	if len(s.servers()) == 0 {
		count := 1
		if words[0] == "servers" {
			count = s.number(words[1])
		}
		s.start(s.T, count)
	}
	do, found := commands[words[0]]
	if !found {
		s.Fatalf("there is no command %q", words[0])
	}
	lines := do(s, words[1:])
	synctest.Wait()
	return append(lines, s.news("")...)
}

// commands are the words that a line begins with.
var commands = map[string]func(s *scenario, words []string) []string{
	"servers":  func(*scenario, []string) []string { return nil },
	"nodes":    (*scenario).addNodes,
	"service":  (*scenario).putService,
	"delete":   (*scenario).deleteService,
	"advance":  (*scenario).advance,
	"status":   (*scenario).status,
	"show":     (*scenario).show,
	"drain":    availability(resources.NodeDrained),
	"cordon":   availability(resources.NodeCordoned),
	"uncordon": availability(resources.NodeActive),
	"crash":    (*scenario).crash,
	"fail":     (*scenario).fail,
	"slow":     (*scenario).fail,
	"mend":     onNodes(func(m *machine) { m.containers.mend() }),
	"kill":     onMachines(func(m *machine) { m.powerOff(nothing) }),
	"boot":     onMachines((*machine).boot),
	"restart":  onMachines(func(m *machine) { m.kill(); m.boot() }),
	"cut":      onMachines(func(m *machine) { m.cluster.sever(m, true) }),
	"heal":     onMachines(func(m *machine) { m.cluster.sever(m, false) }),
	"clock":    (*scenario).clock,
	"stall":    (*scenario).stall,
	"stop":     onMachines((*machine).pause),
	"resume":   onMachines((*machine).resume),
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
	switch key {
	case "replicas":
		service.Replicas = s.number(value)
	case "cpu":
		parse(s, &service.Resources.CPU, value)
	case "memory":
		parse(s, &service.Resources.Memory, value)
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

// news tells what has happened: on the nodes, and what the leader says.
func (s *scenario) news(at string) []string {
	var lines []string
	for _, what := range s.happened() {
		lines = append(lines, at+what)
	}
	var events []resources.Event
	s.peek("/v1/events", &events)
	var said []string
	for _, e := range events {
		e.Time = e.Time.UTC()
		if !s.told[e] {
			s.told[e] = true
			said = append(said, plain(fmt.Sprintf("%s%s %s: %s", at, e.Object, e.Reason, e.Message)))
		}
	}
	slices.Sort(said)
	return append(lines, said...)
}

// status shows services as their users see them.
func (s *scenario) status([]string) []string {
	var all []resources.ServiceStatus
	if !s.peek("/v1/services", &all) {
		return []string{"no server leads"}
	}
	state := s.state()
	var lines []string
	for _, service := range all {
		lines = append(lines, fmt.Sprintf("%s: %s, revision %d, %d of %d ready", service.Service.Name, service.State, service.Revision, service.Ready, service.Service.Replicas))
		if service.Message != "" {
			lines = append(lines, "  "+plain(service.Message))
		}
		var replicas []string
		for _, r := range service.Replicas {
			line := fmt.Sprintf("  %s %s", label(state.Replicas.Get(r.ID)), r.Status.State)
			if r.NodeName != "" {
				line += " on " + r.NodeName
			}
			if !r.Wanted {
				line += ", not wanted"
			}
			if r.Status.Message != "" {
				line += ": " + plain(r.Status.Message)
			}
			replicas = append(replicas, line)
		}
		slices.Sort(replicas)
		lines = append(lines, replicas...)
	}
	return lines
}

// show shows nodes: as the leader sees them, and what runs there.
func (s *scenario) show([]string) []string {
	var all []resources.NodeStatus
	known := s.peek("/v1/nodes", &all)
	var lines []string
	for _, m := range s.nodes() {
		line := m.name + ":"
		i := slices.IndexFunc(all, func(n resources.NodeStatus) bool { return n.ID == m.id })
		switch {
		case !known:
		case i < 0:
			line += " not registered,"
		case all[i].Ready:
			line += " ready,"
		default:
			line += " silent,"
		}
		if i >= 0 && all[i].Availability != "" {
			line += " " + string(all[i].Availability) + ","
		}
		var runs []string
		for _, one := range m.containers.replicas() {
			if one.Running {
				runs = append(runs, label(one.replica))
			}
		}
		slices.Sort(runs)
		if len(runs) == 0 {
			runs = []string{"nothing"}
		}
		lines = append(lines, line+" runs "+strings.Join(runs, " "))
	}
	return lines
}
