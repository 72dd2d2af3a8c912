package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/resources"
)

// machine is a node of the cluster as the user names it.
type machine struct {
	// Endpoint of its agent. A given machine says only at apply which node it is.
	resources.Endpoint
	// path is the attribute that names it, as in "workers[1]".
	path string
	// given is true for a machine that was there before skerry.
	given bool
}

// machinesOf lists the nodes, the servers first.
func (c *Connections) machinesOf(spec *Cluster) ([]machine, error) {
	var all []machine
	for _, list := range []struct {
		name  string
		texts []string
	}{{"servers", spec.Servers}, {"workers", spec.Workers}} {
		for i, text := range list.texts {
			path := fmt.Sprintf("%s[%d]", list.name, i)
			e, err := resources.ParseEndpoint(text)
			if err != nil {
				return nil, resources.Invalid(path, "%v", err)
			}
			m := machine{agentEndpoint(e), path, e.Given()}
			if m.given && m.Bastion == "" && c.settings.SSH != nil {
				m.Bastion = c.settings.SSH.Bastion
			}
			all = append(all, m)
		}
	}
	if len(spec.Nodes) == len(all) {
		for i := range all {
			all[i].Node = resources.NodeID(first(string(all[i].Node), spec.Nodes[i]))
		}
	}
	return all, nil
}

// installs is how many machines get the program at once.
const installs = 4

// prepare finds out which nodes the machines are, and makes nodes of those that
// are none yet. It begins with none before all are known to be able to.
func (c *Connections) prepare(ctx context.Context, machines []machine) error {
	bare := map[int]facts{}
	var problems resources.Problems
	for i := range machines {
		m := &machines[i]
		if !m.given {
			continue
		}
		began := time.Now()
		said, err := c.machines.Run(ctx, m.Endpoint, probe, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		f := readFacts(said)
		if f["skerry"] != "" {
			if err := c.identify(ctx, m); err == nil {
				continue
			}
			c.log.Info("skerry is on the machine and does not answer; it is put there anew", "machine", m.Host)
		}
		for _, reason := range preflight(f, c.carries, began, time.Now()) {
			problems.Addf(m.path, "%s can't become a node: %s", m.Host, reason)
		}
		bare[i] = f
	}
	if err := problems.Err(); err != nil {
		return err
	}
	group, adopting := errgroup.WithContext(ctx)
	group.SetLimit(installs)
	for i, f := range bare {
		group.Go(func() error { return c.adopt(adopting, &machines[i], f) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range machines {
		if machines[i].Node != "" {
			continue
		}
		if err := c.identify(ctx, &machines[i]); err != nil {
			return err
		}
	}
	return c.checkNeighbours(ctx, machines)
}

// identify asks the machine which node it is, and takes that and its host key
// into its endpoint, which others can use then.
func (c *Connections) identify(ctx context.Context, m *machine) error {
	info, err := c.machines.Agent(m.Endpoint).Node(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	if m.Endpoint, err = c.machines.Pin(ctx, m.Endpoint); err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	m.Node = info.ID
	return nil
}

func (c *Connections) carries(arch string) error {
	_, err := c.program(arch)
	return err
}

// answerPatience is how long an agent that was started may take to answer.
const answerPatience = time.Minute

// adopt makes a node of a machine that can be one. It can be cut off and begun
// again anywhere.
func (c *Connections) adopt(ctx context.Context, m *machine, f facts) error {
	fail := func(err error) error { return fmt.Errorf("%s: make %s a node: %w", m.path, m.Host, err) }
	arch, err := goArch(f["arch"])
	if err != nil {
		return fail(err)
	}
	if err := c.install(ctx, m.Endpoint, arch); err != nil {
		return fail(err)
	}
	if _, err := c.machines.RunAsRoot(ctx, m.Endpoint, programPath+" adopt", nil); err != nil {
		return fail(err)
	}
	patient, cancel := context.WithTimeoutCause(ctx, answerPatience, fmt.Errorf("its agent did not answer within %s", answerPatience))
	defer cancel()
	if _, err := c.machines.Agent(m.Endpoint).Await(patient); err != nil {
		return fail(fmt.Errorf("%w%s", err, c.journal(ctx, m.Endpoint)))
	}
	c.log.Info("the machine is a node", "machine", m.Host)
	m.Node = ""
	return c.identify(ctx, m)
}

// journal gives the last that the agent of a machine said, for an error.
func (c *Connections) journal(ctx context.Context, e resources.Endpoint) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := c.machines.RunAsRoot(ctx, e, "journalctl -u skerry-agent -u skerry-server -n 15 -o cat --no-pager", nil)
	if err != nil || said == "" {
		return ""
	}
	return "\nThe last that it said there:\n  " + strings.ReplaceAll(strings.TrimSpace(said), "\n", "\n  ")
}

const programPath = "/usr/local/bin/skerry"

// putProgram replaces the program whole or not at all, where its sum is $1, and
// keeps the one before.
const putProgram = `set -eu
umask 077
cd /usr/local/bin
rm -f .skerry.??????
new=$(mktemp .skerry.XXXXXX)
trap 'rm -f "$new"' EXIT
cat >"$new"
sum=$(sha256sum <"$new" | cut -c1-64)
[ "$sum" = SUM ] || { echo "the program did not arrive whole" >&2; exit 1; }
chmod 755 "$new"
sync "$new"
if [ -e skerry ]; then cp -fL skerry skerry.previous; fi
mv -f "$new" skerry
`

// install puts the program on a machine, unless it is there.
func (c *Connections) install(ctx context.Context, e resources.Endpoint, arch string) error {
	program, err := c.program(arch)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(program)
	sum := hex.EncodeToString(hash[:])
	there, err := c.machines.Run(ctx, e, "sha256sum "+programPath+" 2>/dev/null || true", nil)
	if err != nil {
		return fmt.Errorf("look for the program: %w", err)
	}
	if strings.HasPrefix(there, sum) {
		return nil
	}
	if _, err := c.machines.RunAsRoot(ctx, e, strings.ReplaceAll(putProgram, "SUM", sum), bytes.NewReader(program)); err != nil {
		return fmt.Errorf("put the program on it: %w", err)
	}
	return nil
}

// present tells whether any of skerry is on a machine.
func (c *Connections) present(ctx context.Context, e resources.Endpoint) (bool, error) {
	said, err := c.machines.RunAsRoot(ctx, e, "if [ -e /var/lib/skerry ] || [ -e "+programPath+" ]; then echo yes; fi", nil)
	return strings.TrimSpace(said) == "yes", err
}

// abandon takes skerry off a machine that was there before it.
func (c *Connections) abandon(ctx context.Context, m machine) error {
	if _, err := c.machines.RunAsRoot(ctx, m.Endpoint, "if [ -x "+programPath+" ]; then "+programPath+" abandon; fi", nil); err != nil {
		return fmt.Errorf("take skerry off %s: %w", m.Host, err)
	}
	c.log.Info("skerry is off the machine; Podman, its images and its socket's unit stay", "machine", m.Host)
	return nil
}

// release makes a node forget its cluster, and takes skerry off a machine that
// was there before it.
func (c *Connections) release(ctx context.Context, m machine, id resources.ClusterID) error {
	if m.given {
		// One that was cut off here before.
		there, err := c.present(ctx, m.Endpoint)
		if err != nil || !there {
			return err
		}
	}
	if err := c.machines.Agent(m.Endpoint).Forget(ctx, id); err != nil || !m.given {
		return err
	}
	return c.abandon(ctx, m)
}
