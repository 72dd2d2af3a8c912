// Package resources is the model that the whole of skerry speaks: nodes,
// clusters, services and images, each with its defaults and its validation.
//
// A type here is at once the shape that a user writes (the `json` tag is the
// attribute's name in HCL, JSON, logs and errors), and the shape that the
// control plane stores and the agents carry out. The `iac` tag beside it says
// how the plugins treat the attribute; package provider/definition reads it
// and documents its words. The package imports only the standard library and
// does nothing: no files, no sockets, no clock.
package resources

import (
	"fmt"
	"regexp"
	"strings"
)

// A Problem is one thing that is wrong with what a user wrote.
type Problem struct {
	// Path names the attribute, as in `ports[0].target`.
	Path string `json:"path"`
	// Reason says what is wrong, and what to write instead.
	Reason string `json:"reason"`
}

func (p Problem) String() string { return p.Path + ": " + p.Reason }

// Problems is every problem that a validation found, in the order of the
// attributes. The zero value has none.
type Problems []Problem

// Addf adds a problem with the attribute at path.
func (p *Problems) Addf(path, format string, args ...any) {
	*p = append(*p, Problem{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// Err returns nil when there is no problem, and else one *InvalidError that
// names all.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return &InvalidError{Problems: p}
}

// InvalidError is problems with what a user wrote, as an error.
type InvalidError struct{ Problems Problems }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Invalid returns the error of one problem with the attribute at path.
func Invalid(path, format string, args ...any) error {
	var p Problems
	p.Addf(path, format, args...)
	return p.Err()
}

// MaxNameLength is the longest name, in bytes: that of a DNS label (RFC 1035).
const MaxNameLength = 63

var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// checkName adds a problem when name can't be a DNS label, which every name in
// skerry is, since replicas find each other by it.
func checkName(p *Problems, path, name string) {
	switch {
	case name == "":
		p.Addf(path, "is empty; give a name of lower-case letters, digits and dashes")
	case len(name) > MaxNameLength:
		p.Addf(path, "has %d characters; %d is the most, because names are DNS labels", len(name), MaxNameLength)
	case !namePattern.MatchString(name):
		p.Addf(path, "%q is not a name; use lower-case letters, digits and dashes, and begin and end with a letter or digit", name)
	}
}
