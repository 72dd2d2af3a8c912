package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Refusal is why no node runs a replica now.
type Refusal struct {
	// Nodes is how many there are that could be asked.
	Nodes int
	// Reasons, the most frequent first. Their counts sum to Nodes.
	Reasons []Reason
	// Room names the node where others stop so that the replica finds room;
	// empty where there is none. Stopping is how many they are.
	Room     string
	Stopping int
}

// Reason is what keeps a replica from some nodes.
type Reason struct {
	Kind  Kind
	Count int
	// Detail names the constraint, taint, port or label.
	Detail string
	// Nearest is the name of the node that lacks the least, by Missing
	// millicores or bytes.
	Nearest string
	Missing int64
}

// refusal says why the nodes don't take a replica of the group.
func (g *group) refusal(nodes []*node) *Refusal {
	r := &Refusal{Nodes: len(nodes)}
	type key struct {
		kind   Kind
		detail string
	}
	found := map[key]int{}
	for _, n := range nodes {
		o := g.obstacle(n)
		k := key{o.kind, g.detail(n, o)}
		i, known := found[k]
		if !known {
			i = len(r.Reasons)
			found[k] = i
			r.Reasons = append(r.Reasons, Reason{Kind: o.kind, Detail: k.detail, Nearest: n.Name, Missing: o.missing})
		}
		reason := &r.Reasons[i]
		reason.Count++
		if o.missing < reason.Missing {
			reason.Nearest, reason.Missing = n.Name, o.missing
		}
	}
	slices.SortFunc(r.Reasons, func(a, b Reason) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Detail, b.Detail))
	})
	return r
}

// Temporary is true where the replica can wait: others stop to make room for
// it, or a node that is silent now could take it.
func (r *Refusal) Temporary() bool {
	return r.Nodes == 0 || r.Room != "" || slices.ContainsFunc(r.Reasons, func(o Reason) bool { return o.Kind == Silent })
}

// String gives the refusal for people, in one line.
func (r *Refusal) String() string {
	switch {
	case r.Room != "" && r.Stopping == 1:
		return "waits for a replica to stop on " + r.Room
	case r.Room != "":
		return fmt.Sprintf("waits for %d replicas to stop on %s", r.Stopping, r.Room)
	case r.Nodes == 0:
		return "the cluster has no nodes"
	}
	texts := make([]string, len(r.Reasons))
	for i, reason := range r.Reasons {
		texts[i] = reason.String()
	}
	return fmt.Sprintf("0 of %d nodes fit: %s", r.Nodes, strings.Join(texts, "; "))
}

// String gives the reason for people, as in "9 lack memory, nearest worker-4 by
// 212MiB".
func (r Reason) String() string {
	text := fmt.Sprintf("%d "+r.Kind.format(), r.Count, r.Detail)
	if r.Kind == TooFewCPUs || r.Kind == LacksCPU {
		text += fmt.Sprintf(", nearest %s by %s", r.Nearest, resources.MilliCPU(r.Missing))
	}
	if r.Kind == TooSmall || r.Kind == LacksMemory {
		text += fmt.Sprintf(", nearest %s by %s", r.Nearest, rounded(r.Missing))
	}
	return text
}

// format gives the words of a kind, with a place for the detail.
func (k Kind) format() string {
	switch k {
	case Unreadable:
		return "can't be asked, because %s"
	case Unlabelled:
		return "without the label %q that placement.spread names"
	case Elsewhere:
		return "without %s"
	case Unmet:
		return "don't meet %s"
	case Tainted:
		return "tainted %s"
	case TooFewCPUs:
		return "too small in cpu%s"
	case TooSmall:
		return "too small in memory%s"
	case Cordoned:
		return "cordoned%s"
	case DiskFull:
		return "short of disk%s"
	case Crowded:
		return "with the most replicas per node, %s"
	case PortTaken:
		return "with port %s"
	case LacksCPU:
		return "lack cpu%s"
	case LacksMemory:
		return "lack memory%s"
	case Silent:
		return "not ready%s"
	case Gone:
		return "not in the cluster, %s"
	case none:
	}
	return "fit%s"
}

// rounded gives bytes in whole MiB, as enough of them as it needs.
func rounded(bytes int64) resources.Bytes {
	const unit = int64(resources.MiB)
	return resources.Bytes((bytes + unit - 1) / unit * unit)
}
