package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// ForwardDrop is a chain of another table that keeps packets from replicas, whatever
// skerry's own rules say: in nftables, a packet passes only where every table lets it.
type ForwardDrop struct {
	// Family and Table are the table's, as in "ip" and "filter".
	Family, Table string
	Chain         string
}

// String is the chain as nft names it.
func (d ForwardDrop) String() string { return d.Family + " " + d.Table + " " + d.Chain }

// ForwardDrops are the chains of other tables that drop or reject what they know
// nothing of on its way through the node: those at the forward hook whose policy is
// to drop, as Docker and ufw make them, and those with a rule that drops or rejects
// all that comes to it, as firewalld does. One that accepts what comes from and goes
// to replicas is none. They are sorted. What the legacy iptables
// made is not seen by nft, and not here.
func ForwardDrops(ctx context.Context) ([]ForwardDrop, error) {
	text, err := output(exec.CommandContext(ctx, "nft", "--json", "list", "ruleset"))
	if err != nil {
		return nil, fmt.Errorf("list nftables rules: %w", err)
	}
	drops, err := forwardDrops(text)
	if err != nil {
		return nil, fmt.Errorf("read nftables rules: %w", err)
	}
	return drops, nil
}

// forwardDrops finds them in what nft lists.
func forwardDrops(text []byte) ([]ForwardDrop, error) {
	var listed struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
			Rule  *struct {
				Family, Table, Chain string
				Expr                 []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(text, &listed); err != nil {
		return nil, err
	}
	at := map[ForwardDrop]*verdicts{}
	for _, l := range listed.Nftables {
		if c := l.Chain; c != nil && c.Hook == "forward" && c.Family != "ip6" && c.Family != "bridge" && (c.Family != Family || c.Table != Name) {
			at[ForwardDrop{c.Family, c.Table, c.Name}] = &verdicts{drops: c.Policy == "drop"}
		}
	}
	for _, l := range listed.Nftables {
		if r := l.Rule; r != nil {
			if v := at[ForwardDrop{r.Family, r.Table, r.Chain}]; v != nil {
				v.add(r.Expr)
			}
		}
	}
	var drops []ForwardDrop
	for chain, v := range at {
		if v.drops && (!v.from || !v.to) {
			drops = append(drops, chain)
		}
	}
	slices.SortFunc(drops, func(a, b ForwardDrop) int { return strings.Compare(a.String(), b.String()) })
	return drops, nil
}

// verdicts are what a chain at the forward hook does: whether it drops what it
// knows nothing of, and accepts what comes from replicas, and goes to them.
type verdicts struct{ drops, from, to bool }

func (v *verdicts) add(rule []map[string]json.RawMessage) {
	v.drops = v.drops || dropsAll(rule)
	switch acceptsReplicas(rule) {
	case "iifname":
		v.from = true
	case "oifname":
		v.to = true
	}
}

// dropsAll is true for a rule that has a verdict, and no condition.
func dropsAll(expressions []map[string]json.RawMessage) bool {
	verdict := false
	for _, e := range expressions {
		for kind := range e {
			switch kind {
			case "drop", "reject":
				verdict = true
			case "counter", "log", "comment":
			default:
				return false
			}
		}
	}
	return verdict
}

// replicaLinks are the node's ends of the replicas' veths, as nft names them.
const replicaLinks = "skr-*"

// acceptsReplicas is iifname for a rule that accepts all that comes from replicas,
// oifname for what goes to them, and else empty.
func acceptsReplicas(expressions []map[string]json.RawMessage) (direction string) {
	accepts := false
	for _, e := range expressions {
		if _, is := e["accept"]; is {
			accepts = true
		}
		var match struct {
			Op    string
			Left  struct{ Meta struct{ Key string } }
			Right string
		}
		if text, is := e["match"]; is {
			if json.Unmarshal(text, &match) != nil || match.Op != "==" || match.Right != replicaLinks || direction != "" {
				return ""
			}
			direction = match.Left.Meta.Key
		}
	}
	if !accepts {
		return ""
	}
	return direction
}
