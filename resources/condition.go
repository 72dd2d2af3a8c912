package resources

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Condition is something that a node fulfils or not. In text it is a key, an
// operator, and values that may stand in quotes:
//
//	zone == a    zone != "a"    zone in (a, b)    zone not in (a, b)
//	gpu exists   gpu not exists
//
// The key is a label of the node, `node.name` or `node.id`; or, in affinities,
// `service` for the services that have replicas on the node, and `service.KEY`
// for the labels of those replicas. A node without the label fulfils `!=`,
// `not in` and `not exists`.
type Condition struct {
	Key    string
	Op     Operator
	Values []string
}

// Operator is how a condition compares.
type Operator string

// The operators.
const (
	OpEqual     Operator = "=="
	OpNotEqual  Operator = "!="
	OpIn        Operator = "in"
	OpNotIn     Operator = "not in"
	OpExists    Operator = "exists"
	OpNotExists Operator = "not exists"
)

// Keys that are no labels.
const (
	KeyNodeName   = "node.name"
	KeyNodeID     = "node.id"
	keyService    = "service"
	servicePrefix = "service."
)

// maxCondition is the longest text of a condition, in bytes.
const maxCondition = 1024

// valuePattern is that of values of taints: those of labels that need no quotes.
var valuePattern = regexp.MustCompile(`^[-A-Za-z0-9_./]{0,63}$`)

// Service is true where the condition is about the services on a node.
func (c Condition) Service() bool {
	return c.Key == keyService || strings.HasPrefix(c.Key, servicePrefix)
}

// ServiceLabel gives the key of the label of services that the condition is
// about, and false where it is about their names.
func (c Condition) ServiceLabel() (string, bool) { return strings.CutPrefix(c.Key, servicePrefix) }

// Matches is true where a value, or its absence, fulfils the condition.
func (c Condition) Matches(value string, found bool) bool {
	switch c.Op {
	case OpEqual, OpIn:
		return found && slices.Contains(c.Values, value)
	case OpNotEqual, OpNotIn:
		return !found || !slices.Contains(c.Values, value)
	case OpExists:
		return found
	case OpNotExists:
		return !found
	}
	return false
}

// String gives the text that ParseCondition reads, with every value in quotes.
func (c Condition) String() string {
	quoted := make([]string, len(c.Values))
	for i, v := range c.Values {
		quoted[i] = `"` + v + `"`
	}
	switch c.Op {
	case OpIn, OpNotIn:
		return fmt.Sprintf("%s %s (%s)", c.Key, c.Op, strings.Join(quoted, ", "))
	case OpEqual, OpNotEqual:
		return fmt.Sprintf("%s %s %s", c.Key, c.Op, strings.Join(quoted, ""))
	case OpExists, OpNotExists:
	}
	return fmt.Sprintf("%s %s", c.Key, c.Op)
}

// ParseCondition reads a condition as Condition describes it.
func ParseCondition(text string) (Condition, error) {
	if len(text) > maxCondition {
		return Condition{}, fmt.Errorf("has %d characters; %d is the most", len(text), maxCondition)
	}
	words, err := conditionWords(text)
	if err != nil {
		return Condition{}, fmt.Errorf("%q is not a condition: %w", text, err)
	}
	c, err := readCondition(words)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return Condition{}, fmt.Errorf("%q is not a condition: %w", text, err)
	}
	return c, nil
}

// word is a part of a condition's text. Quoted ones are values and nothing else.
type word struct {
	text   string
	quoted bool
}

// is tells whether the word is the sign or the operator.
func (w word) is(text string) bool { return !w.quoted && w.text == text }

var wordPattern = regexp.MustCompile(`^(==|!=|[(),]|"[^"]*"|[^\s(),"=!]+)`)

func conditionWords(text string) ([]word, error) {
	var words []word
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimLeftFunc(rest, unicode.IsSpace) {
		found := wordPattern.FindString(rest)
		if found == "" {
			return nil, fmt.Errorf("%q can't be read; write it like zone == a or zone in (a, b)", rest)
		}
		rest = rest[len(found):]
		inner, quoted := strings.CutPrefix(found, `"`)
		words = append(words, word{strings.TrimSuffix(inner, `"`), quoted})
	}
	return words, nil
}

var errShape = errors.New("write it like zone == a, zone in (a, b) or gpu exists; operators are ==, !=, in, not in, exists, not exists")

func readCondition(words []word) (Condition, error) {
	if len(words) < 2 || words[0].quoted {
		return Condition{}, errShape
	}
	c := Condition{Key: words[0].text}
	rest := words[1:]
	not := rest[0].is("not")
	if not {
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].quoted {
		return Condition{}, errShape
	}
	c.Op = Operator(rest[0].text)
	if not {
		c.Op = "not " + c.Op
	}
	rest = rest[1:]
	switch c.Op {
	case OpEqual, OpNotEqual:
		if len(rest) != 1 || !rest[0].value() {
			return Condition{}, errShape
		}
		c.Values = []string{rest[0].text}
	case OpIn, OpNotIn:
		values, err := readList(rest)
		if err != nil {
			return Condition{}, err
		}
		c.Values = values
	case OpExists, OpNotExists:
		if len(rest) > 0 {
			return Condition{}, errShape
		}
	default:
		return Condition{}, errShape
	}
	return c, nil
}

// value is true where the word is no sign.
func (w word) value() bool {
	return w.quoted || !slices.Contains([]string{"==", "!=", "(", ")", ","}, w.text)
}

// readList reads "(a, b)".
func readList(words []word) ([]string, error) {
	if len(words) < 3 || len(words)%2 == 0 || !words[0].is("(") || !words[len(words)-1].is(")") {
		return nil, errShape
	}
	var values []string
	for i, w := range words[1 : len(words)-1] {
		if i%2 == 0 && !w.value() || i%2 == 1 && !w.is(",") {
			return nil, errShape
		}
		if i%2 == 0 {
			values = append(values, w.text)
		}
	}
	return values, nil
}

// check refuses keys and values that nothing can have.
func (c Condition) check() error {
	label, ofService := c.ServiceLabel()
	if !ofService {
		label = c.Key
	}
	switch {
	case !labelPattern.MatchString(label):
		return fmt.Errorf("%q is not a label's key; use at most 63 letters, digits and - _ . /", label)
	case strings.HasPrefix(c.Key, "node.") && c.Key != KeyNodeName && c.Key != KeyNodeID:
		return fmt.Errorf("%q is not known; write a label's key alone, like zone, or node.name or node.id", c.Key)
	case c.Key == keyService && c.Op != OpEqual && c.Op != OpIn:
		return errors.New("a service is named with == or in; anti_affinity is the opposite of affinity")
	case ofService && c.Op != OpEqual && c.Op != OpIn && c.Op != OpExists:
		return errors.New("the labels of services are asked for with ==, in or exists; anti_affinity is the opposite of affinity")
	}
	for _, v := range c.Values {
		if len(v) > MaxNameLength {
			return fmt.Errorf("%q is longer than any label's value, %d characters", v, MaxNameLength)
		}
	}
	return nil
}
