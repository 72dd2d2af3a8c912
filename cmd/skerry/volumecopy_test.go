package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhereACopyGoes(t *testing.T) {
	for text, want := range map[string]place{
		"rows:a/b": {"rows", "a/b"}, "rows:": {"rows", ""}, "rows:/": {"rows", "/"}, "rows:a:b": {"rows", "a:b"},
		"file": {"", "file"}, "./a:b": {"", "./a:b"}, "/tmp/a:b": {"", "/tmp/a:b"}, ":a": {"", ":a"}, ".": {"", "."},
	} {
		if diff := cmp.Diff(want, parsePlace(text), cmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("rows:a/b")
	f.Add("./a:b")
	f.Fuzz(func(t *testing.T, text string) {
		p := parsePlace(text)
		if p.volume == "" && p.path != text || p.volume != "" && p.volume+":"+p.path != text || strings.Contains(p.volume, "/") {
			t.Errorf("%q is %+v", text, p)
		}
	})
}
