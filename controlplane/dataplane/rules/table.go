package rules

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Family and Name of the table.
const (
	Family = "inet"
	Name   = "skerry"
)

// fixed is the half of every table that does not depend on the node's networks.
//
//go:embed skerry.nft
var fixed string

// Table is the table of one node. Two of the same networks have the same text.
type Table struct {
	sets   []set
	chains []chain
	// mark is the hash of the text that the table was made as.
	mark string
}

// set is a named set, or a map where its elements have values.
type set struct {
	name string
	// kind is its type, as in "ipv4_addr : verdict".
	kind string
	// flags are "interval" where elements are prefixes.
	flags string
	// elements are values by key; the values of a set's are empty.
	elements map[string]string
}

type chain struct {
	name string
	// hook is where packets come in, as in "type nat hook output priority -100;
	// policy accept;"; empty for a chain that others lead to.
	hook  string
	rules []string
}

// markPrefix begins the name of an empty chain, whose rest is the mark of the
// table: it says which text the kernel has.
const markPrefix = "applied."

// add puts an element into a set; false where the key is there already.
func (t *Table) add(name, key, value string) bool {
	s := t.set(name)
	if _, is := s.elements[key]; is {
		return false
	}
	s.elements[key] = value
	return true
}

// set finds a set; nil where there is none.
func (t *Table) set(name string) *set {
	i := slices.IndexFunc(t.sets, func(s set) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &t.sets[i]
}

// seal marks the table, which is complete.
func (t *Table) seal() {
	sum := sha256.Sum256([]byte(t.String()))
	t.mark = hex.EncodeToString(sum[:8])
}

// String is the table as nft reads it, and lists it.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", Family, Name)
	for _, s := range t.sets {
		fmt.Fprintf(&b, "\t%s %s {\n%s", s.word(), s.name, s.declaration("\t\t", "\n"))
		if len(s.elements) > 0 {
			fmt.Fprintf(&b, "\t\telements = {\n\t\t\t%s\n\t\t}\n", strings.Join(s.all(), ",\n\t\t\t"))
		}
		b.WriteString("\t}\n")
	}
	for _, c := range t.chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		for _, line := range append([]string{c.hook}, c.rules...) {
			if line != "" {
				fmt.Fprintf(&b, "\t\t%s\n", line)
			}
		}
		b.WriteString("\t}\n")
	}
	if t.mark != "" {
		fmt.Fprintf(&b, "\tchain %s%s {\n\t}\n", markPrefix, t.mark)
	}
	b.WriteString("}\n")
	return b.String()
}

// word is what nft calls it.
func (s set) word() string {
	if strings.Contains(s.kind, " : ") {
		return "map"
	}
	return "set"
}

// declaration is what stands in the set beside its elements.
func (s set) declaration(before, after string) string {
	text := before + "type " + s.kind + after
	if s.flags != "" {
		text += before + "flags " + s.flags + after
	}
	return text
}

// all are the elements, sorted.
func (s set) all() []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(s.elements)) {
		all = append(all, s.element(key))
	}
	return all
}

func (s set) element(key string) string {
	if value := s.elements[key]; value != "" {
		return key + " : " + value
	}
	return key
}

// parse reads a table as nft lists it, or as skerry.nft is written. It knows what
// skerry's tables are made of; what it takes for something else makes a change fail,
// as the kernel does not have it, and nothing worse.
func parse(text string) Table {
	var t Table
	for block := range strings.SplitSeq(text, "\n\t}") {
		var lines []string
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "table ") {
				lines = append(lines, line)
			}
		}
		if len(lines) == 0 {
			continue
		}
		title, lines := strings.Fields(lines[0]), lines[1:]
		if len(title) < 2 {
			continue
		}
		switch name := title[1]; {
		case title[0] != "chain":
			t.sets = append(t.sets, parseSet(name, lines))
		case strings.HasPrefix(name, markPrefix):
			t.mark = strings.TrimPrefix(name, markPrefix)
		default:
			c := chain{name: name, rules: lines}
			if len(lines) > 0 && strings.HasPrefix(lines[0], "type ") {
				c.hook, c.rules = inNumbers(lines[0]), lines[1:]
			}
			t.chains = append(t.chains, c)
		}
	}
	return t
}

// priorities are the names that nft has for those of hooks. Which it lists by name
// depends on its version.
var priorities = map[string]int{"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "srcnat": 100}

// inNumbers is a hook whose priority, as in "dstnat + 10", is a number.
func inNumbers(hook string) string {
	before, rest, _ := strings.Cut(hook, "priority ")
	priority, after, _ := strings.Cut(rest, ";")
	name, offset, _ := strings.Cut(strings.ReplaceAll(priority, " ", ""), "+")
	base, named := priorities[name]
	if !named {
		return hook
	}
	add, _ := strconv.Atoi(offset) // no offset is zero
	return fmt.Sprintf("%spriority %d;%s", before, base+add, after)
}

func parseSet(name string, lines []string) set {
	s := set{name: name, elements: map[string]string{}}
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "type":
			s.kind = rest
		case "flags":
			s.flags = rest
		case "elements":
			text := strings.Trim(strings.TrimPrefix(strings.Join(lines[i:], " "), "elements = "), "{}")
			for element := range strings.SplitSeq(text, ",") {
				if key, value, _ := strings.Cut(strings.TrimSpace(element), " : "); key != "" {
					s.elements[key] = value
				}
			}
			return s
		}
	}
	return s
}
