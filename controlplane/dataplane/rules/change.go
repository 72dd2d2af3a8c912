package rules

import (
	"fmt"
	"slices"
	"strings"
)

// replacement is the transaction that puts the table, whole, in the place of any
// that is there. On kernels before 6.17, sets of a table that is replaced may look
// empty to a packet that is between its rules, and on every one a packet may meet
// the old table's chains too late and the new one's too early: once in a few hundred
// times one is lost or refused. So it is the last resort.
func replacement(t *Table) string {
	return removal + t.String()
}

// removal is the transaction that removes the table, if it is there.
var removal = fmt.Sprintf("add table %[1]s %[2]s\ndelete table %[1]s %[2]s\n", Family, Name)

// change is the transaction from one table to another. It names only what differs,
// so that no packet misses anything else for a moment. It fails where the kernel
// does not have the first; and where a set or a chain can't become what it is to be,
// which happens between versions of skerry only.
func change(from, to *Table) string {
	var c commands
	fmt.Fprintf(&c, "add table %s %s\n", Family, Name)
	// Proves that the kernel has the first.
	if from.mark != "" {
		c.say("delete chain", markPrefix+from.mark, "")
	}
	c.say("add chain", markPrefix+to.mark, "")
	for _, s := range to.sets {
		if was := from.set(s.name); was == nil || was.declaration("", "") != s.declaration("", "") {
			c.say("add "+s.word(), s.name, "{ %s}", s.declaration("", "; "))
		}
	}
	for _, s := range from.sets {
		c.elements("delete", s, to.set(s.name))
	}
	was, is := byName(from.chains), byName(to.chains)
	c.setChains(to.chains, was)
	for _, s := range to.sets {
		c.elements("add", s, from.set(s.name))
	}
	c.removeChains(from.chains, is)
	for _, s := range from.sets {
		if to.set(s.name) == nil {
			c.say("delete "+s.word(), s.name, "")
		}
	}
	return c.String()
}

func byName(chains []chain) map[string]*chain {
	all := make(map[string]*chain, len(chains))
	for i := range chains {
		all[chains[i].name] = &chains[i]
	}
	return all
}

// commands are a transaction in the making: what nft carries out, in order.
type commands struct{ strings.Builder }

// say adds a command on something in the table.
func (c *commands) say(command, name, format string, args ...any) {
	verb, kind, _ := strings.Cut(command, " ")
	text := fmt.Sprintf("%s %s %s %s %s ", verb, kind, Family, Name, name) + fmt.Sprintf(format, args...)
	fmt.Fprintln(c, strings.TrimSpace(text))
}

// elements adds or deletes what a set has beyond the other, which may be nil.
func (c *commands) elements(verb string, s set, other *set) {
	var beyond []string
	for key, value := range s.elements {
		if other != nil {
			if has, is := other.elements[key]; is && has == value {
				continue
			}
		}
		beyond = append(beyond, s.element(key))
	}
	if len(beyond) > 0 {
		slices.Sort(beyond)
		c.say(verb+" element", s.name, "{ %s }", strings.Join(beyond, ", "))
	}
}

// setChains gives chains the rules that they had not. All are there before a rule
// leads to one.
func (c *commands) setChains(chains []chain, was map[string]*chain) {
	for _, ch := range chains {
		switch old := was[ch.name]; {
		case old == nil && ch.hook != "":
			c.say("add chain", ch.name, "{ %s }", ch.hook)
		case old == nil:
			c.say("add chain", ch.name, "")
		case old.hook != ch.hook:
			// Fails, as it must: a chain's hook can't change.
			c.say("create chain", ch.name, "")
		case !slices.Equal(old.rules, ch.rules):
			c.say("flush chain", ch.name, "")
		}
	}
	for _, ch := range chains {
		if old := was[ch.name]; old != nil && slices.Equal(old.rules, ch.rules) {
			continue
		}
		for _, rule := range ch.rules {
			c.say("add rule", ch.name, "%s", rule)
		}
	}
}

// removeChains removes the chains that no longer are.
func (c *commands) removeChains(chains []chain, is map[string]*chain) {
	for _, command := range []string{"flush chain", "delete chain"} {
		for _, ch := range chains {
			if is[ch.name] == nil {
				c.say(command, ch.name, "")
			}
		}
	}
}
