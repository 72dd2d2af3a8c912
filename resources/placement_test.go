package resources

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCondition(t *testing.T) {
	for text, want := range map[string]Condition{
		`zone == "a"`:             {"zone", OpEqual, []string{"a"}},
		`zone==a`:                 {"zone", OpEqual, []string{"a"}},
		` disk != hdd `:           {"disk", OpNotEqual, []string{"hdd"}},
		`zone in (a, "b c",d)`:    {"zone", OpIn, []string{"a", "b c", "d"}},
		`zone not in (a)`:         {"zone", OpNotIn, []string{"a"}},
		`gpu exists`:              {"gpu", OpExists, nil},
		`gpu not exists`:          {"gpu", OpNotExists, nil},
		`node.name == worker-1`:   {"node.name", OpEqual, []string{"worker-1"}},
		`service == db`:           {"service", OpEqual, []string{"db"}},
		`service.tier in (a, b)`:  {"service.tier", OpIn, []string{"a", "b"}},
		`example.com/disk == ""`:  {"example.com/disk", OpEqual, []string{""}},
		`in in (in, not, exists)`: {"in", OpIn, []string{"in", "not", "exists"}},
		`zone == "=="`:            {"zone", OpEqual, []string{"=="}},
	} {
		got, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestConditionsThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "write it like",
		"zone":                                 "write it like",
		"zone = a":                             `"= a" can't be read`,
		"zone == a b":                          "write it like",
		"zone in a":                            "write it like",
		"zone in ()":                           "write it like",
		"zone in (a,)":                         "write it like",
		"zone in (a b)":                        "write it like",
		"zone not":                             "write it like",
		"zone not == a":                        "write it like",
		"zone > 3":                             "write it like",
		`"zone" == a`:                          "write it like",
		`zone == "a`:                           "can't be read",
		"!gpu":                                 "can't be read",
		"-zone == a":                           "not a label's key",
		"node.labels.zone == a":                "write a label's key alone",
		"service != db":                        "anti_affinity is the opposite",
		"service.tier not in (db)":             "anti_affinity is the opposite",
		"zone == " + strings.Repeat("a", 64):   "longer than any label's value",
		"zone == " + strings.Repeat("a", 2000): "is the most",
	} {
		if got, err := ParseCondition(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v and %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestConditionMatches(t *testing.T) {
	for _, c := range []struct {
		text           string
		a, b, isAbsent bool
	}{
		{"zone == a", true, false, false},
		{"zone != a", false, true, true},
		{"zone in (a, c)", true, false, false},
		{"zone not in (a, c)", false, true, true},
		{"zone exists", true, true, false},
		{"zone not exists", false, false, true},
	} {
		condition, err := ParseCondition(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got := [3]bool{condition.Matches("a", true), condition.Matches("b", true), condition.Matches("", false)}
		if want := [3]bool{c.a, c.b, c.isAbsent}; got != want {
			t.Errorf("%s matches a, b, absent: %v, want %v", c.text, got, want)
		}
	}
}

// Whatever is read gives a text that is read as the same condition.
func FuzzParseCondition(f *testing.F) {
	for _, text := range []string{`zone == "a"`, "disk != hdd", "zone in (a, b)", "zone not in (a)", "gpu exists", "gpu not exists", "service.a == b", `a in ("(", ",")`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(text)
		if err != nil {
			return
		}
		again, err := ParseCondition(c.String())
		if len(c.String()) > maxCondition {
			return
		}
		if err != nil {
			t.Fatalf("%q is read as %q, which is not: %v", text, c, err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("%q is read differently again (-once +twice):\n%s", text, diff)
		}
	})
}

func TestTaintsAndTolerations(t *testing.T) {
	for _, c := range []struct {
		toleration, taint string
		want              bool
	}{
		{"gpu=true:NoSchedule", "gpu=true:NoSchedule", true},
		{"gpu=true:NoSchedule", "gpu=true:NoExecute", false},
		{"gpu=true", "gpu=true:NoExecute", true},
		{"gpu=true", "gpu=false:NoExecute", false},
		{"gpu", "gpu=false:NoExecute", true},
		{"gpu", "gpu:NoSchedule", true},
		{"gpu=", "gpu=true:NoSchedule", false},
		{"disk", "gpu:NoSchedule", false},
		{"*", "gpu=true:NoSchedule", true},
		{"*:NoSchedule", "gpu=true:NoExecute", false},
	} {
		taint, err := ParseTaint(c.taint)
		if err != nil {
			t.Fatal(err)
		}
		toleration, err := ParseToleration(c.toleration)
		if err != nil {
			t.Fatal(err)
		}
		if taint.String() != c.taint || toleration.String() != c.toleration {
			t.Errorf("%s and %s are written as %s and %s", c.taint, c.toleration, taint, toleration)
		}
		if got := toleration.Tolerates(taint); got != c.want {
			t.Errorf("%s tolerates %s: %t", c.toleration, c.taint, got)
		}
	}
	for _, text := range []string{"", "gpu", "gpu=true", "gpu:Never", ":NoSchedule", "g p:NoSchedule", "gpu=a b:NoSchedule"} {
		if got, err := ParseTaint(text); err == nil {
			t.Errorf("%q is read as the taint %s", text, got)
		}
	}
	for _, text := range []string{"", "gpu:Never", "*=a", "g p", "gpu=a b"} {
		if got, err := ParseToleration(text); err == nil {
			t.Errorf("%q is read as the toleration %s", text, got)
		}
	}
}

func TestAffinityCycle(t *testing.T) {
	follow := func(name string, others ...string) Service {
		s := Service{Name: name, Placement: &Placement{}}
		for _, other := range others {
			s.Placement.Affinity = append(s.Placement.Affinity, "service == "+other)
		}
		return s
	}
	for name, c := range map[string]struct {
		services []Service
		want     []string
	}{
		"none":        {[]Service{{Name: "a"}, follow("b", "a"), follow("c", "a", "b", "absent")}, nil},
		"two":         {[]Service{follow("b", "a"), follow("a", "b")}, []string{"a", "b"}},
		"with a tail": {[]Service{follow("a", "b"), follow("b", "c"), follow("c", "d"), follow("d", "b")}, []string{"b", "c", "d"}},
	} {
		if diff := cmp.Diff(c.want, AffinityCycle(c.services)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What is read as a taint or a toleration is written as it was.
func FuzzParseTaint(f *testing.F) {
	for _, text := range []string{"gpu=true:NoSchedule", "gpu:NoExecute", "gpu", "*", "gpu=", "*:NoSchedule"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// "gpu=" is the taint gpu with an empty value, which is written without it.
		if taint, err := ParseTaint(text); err == nil && strings.Replace(text, "=:", ":", 1) != taint.String() {
			t.Errorf("the taint %q is written as %q", text, taint)
		}
		if toleration, err := ParseToleration(text); err == nil && text != toleration.String() {
			t.Errorf("the toleration %q is written as %q", text, toleration)
		}
	})
}
