package terraform

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/provider/definition/definitiontest"
	"github.com/skerry-io/skerry/resources"
)

func TestCLILifecycle(t *testing.T) {
	c := newCLI(t)
	out := c.apply(`resource "test_anything" "it" {
  name             = "n"
  size             = "1024MiB"
  tags             = ["b", "a"]
  labels           = {}
  order            = ["1024KiB"]
  secret           = "whispered"
  password         = "hushed"
  password_version = 1
  inners           = [{ path = "p" }]
  by_name          = { x = { path = "q", deep = { text = "d" } } }
}`)
	c.contains(out, "1 added", "(sensitive value)", "(write-only attribute)")
	c.lacks(out, "whispered", "hushed")
	c.contains(c.state(), `"id": "id-n"`, `"size": "1024MiB"`, `"password": null`, "10.0.0.1")
	c.lacks(c.state(), "hushed")
	if diff := cmp.Diff([]string{"hushed"}, c.world.Passwords); diff != "" {
		t.Error(diff)
	}

	respelled := `resource "test_anything" "it" {
  name             = "n"
  size             = "1GiB"
  tags             = ["a", "b"]
  labels           = {}
  order            = ["1MiB"]
  secret           = "whispered"
  password         = "changed, but its version wasn't"
  password_version = 1
  inners           = [{ path = "p", size = "1MiB" }]
  by_name          = { x = { path = "q", deep = { text = "d" } } }
}`
	c.settled(respelled)

	larger := strings.Replace(respelled, `"1GiB"`, `"2GiB"`, 1)
	c.contains(c.planned(larger), "updated in-place", `~ size             = "1024MiB" -> "2GiB"`, "~ changes          = 1 -> (known after apply)", "0 to destroy")
	c.contains(c.apply(larger), "1 changed")
	c.contains(c.state(), `"id": "id-n"`, `"changes": 2`)
	c.settled(larger)

	rotated := strings.NewReplacer("its version wasn't", "anew", "password_version = 1", "password_version = 2").Replace(larger)
	c.lacks(c.apply(rotated), "anew")
	if got := c.world.Passwords[len(c.world.Passwords)-1]; got != "changed, but anew" {
		t.Errorf("the password is %q after its version changed", got)
	}

	deeper := strings.Replace(rotated, `text = "d"`, `text = "e"`, 1)
	c.contains(c.planned(deeper), "must be replaced", "# forces replacement")
	renamed := strings.Replace(rotated, `"n"`, `"m"`, 1)
	c.contains(c.planned(renamed), "must be replaced", "# forces replacement")
	c.apply(renamed)
	if diff := cmp.Diff([]string{"m"}, c.names()); diff != "" {
		t.Error(diff)
	}

	renamed = strings.Replace(renamed, "  labels           = {}\n", "", 1) // an import can't tell it from none
	c.apply(renamed)
	c.succeed("state", "rm", "test_anything.it")
	out, code := c.run("import", "-input=false", "test_anything.it", "nobody")
	if code != 1 {
		t.Errorf("an import of what isn't there ends with %d", code)
	}
	c.contains(out, "Can't import the anything", "there is none of this name")
	c.succeed("import", "-input=false", "test_anything.it", "m")
	c.lacks(c.state(), "anew")
	c.settled(renamed)

	delete(c.world.Things, "m")
	c.contains(c.planned(renamed), "will be created")
	c.apply(renamed)
	c.succeed("destroy", "-auto-approve")
	if names := c.names(); names != nil {
		t.Errorf("%v are left after the destroy", names)
	}
}

// A value that is known during the apply only may stand anywhere.
func TestCLIUnknownValues(t *testing.T) {
	c := newCLI(t)
	config := func(later string) string {
		return `resource "terraform_data" "later" {
  input = { text = "` + later + `", size = "` + later + `MiB", list = ["` + later + `"], object = { path = "` + later + `", size = null, deep = null }, on = true, number = ` + later + ` }
}

locals {
  later = terraform_data.later.output
}

resource "test_anything" "it" {
  name     = "n"
  size     = local.later.size
  count_of = local.later.number
  on       = local.later.on
  tags     = ["a", local.later.text]
  order    = ["1GiB", local.later.size]
  labels   = { known = "k", later = local.later.text }
  inner    = local.later.object
  inners   = [{ path = "p" }, { path = local.later.text, size = local.later.size }, local.later.object]
  by_name  = { x = { path = local.later.text }, y = local.later.object }
  matrix   = [[1], [local.later.number]]
  guess    = local.later.text
  choice   = { mode = local.later.text }
  timeouts {
    create = "${local.later.number}m"
  }
}`
	}
	c.apply(config("5"))
	c.settled(config("5"))
	c.apply(config("6"))
	c.settled(config("6"))
	if got := c.world.Things["n"]; got.Size != 6*resources.MiB || got.ByName["y"].Path != "6" || got.Choice != (definitiontest.Choice{Mode: "6", Level: 3}) || got.Changes != 2 {
		t.Errorf("the values arrived as %+v", got)
	}
}

func TestCLIErrorsNameTheAttribute(t *testing.T) {
	c := newCLI(t)
	c.write(`resource "test_anything" "it" {
  name     = "n"
  size     = "much"
  deadline = "soon"
  inners   = [{ path = "bad" }, { size = "1MiB" }]
  timeouts {
    create = "tomorrow"
  }
}`)
	out, code := c.run("plan")
	if code != 1 {
		t.Errorf("plan ends with %d", code)
	}
	c.contains(out, "Invalid anything: size", `size     = "much"`, "512MiB", "Invalid anything: deadline", "inners[0].path", "line 10", "inners[1].path: is missing", "timeouts.create")
	c.lacks(out, "password")

	c.world.Fail = &resources.InvalidError{Problems: resources.Problems{{Path: "labels", Reason: "are too many"}}}
	c.write(`resource "test_anything" "it" {
  name   = "n"
  labels = { a = "b" }
}`)
	out, code = c.run("apply", "-auto-approve")
	if code != 1 {
		t.Errorf("apply ends with %d", code)
	}
	c.contains(out, "Can't create the anything: labels", `labels = { a = "b" }`, "are too many")
	c.world.Fail = nil
	c.contains(c.planned(`resource "test_anything" "it" {
  name = "n"
}`), "is tainted")
}

func TestCLIProviderSettings(t *testing.T) {
	c := newCLI(t)
	thing := `
resource "test_anything" "it" {
  name = "n"
}`
	c.write(`provider "test" {
  every = "never"
  link  = { host = "h", port = -1 }
}` + thing)
	out, code := c.run("plan")
	if code != 1 {
		t.Errorf("plan ends with %d", code)
	}
	c.contains(out, "Invalid provider configuration: every", `every = "never"`, "link.port: is negative")

	c.apply(`provider "test" {
  tags  = ["a"]
  order = [1]
  map   = { on = true }
  ratio = 0.5
  token = "hush"
  link  = { host = "h" }
}` + thing)
	want := definitiontest.Settings{
		Every: resources.Duration(5 * time.Second), Tags: []string{"a"}, Order: []int{1}, Map: map[string]bool{"on": true}, Ratio: 0.5, Token: "hush",
		Link: &definitiontest.Link{Host: "h", Port: 22, Fast: true},
	}
	if diff := cmp.Diff(want, c.world.Settings); diff != "" {
		t.Errorf("settings (-want +got)\n%s", diff)
	}
}

// A provider block that isn't known yet stops neither the plan nor the reads
// before it.
func TestCLIUnknownProvider(t *testing.T) {
	c := newCLI(t)
	config := func(label, size string) string {
		return `resource "terraform_data" "later" {
  input            = "` + label + `"
  triggers_replace = "` + label + `"
}

provider "test" {
  label = terraform_data.later.output
}

resource "test_anything" "it" {
  name = "n"
  size = "` + size + `"
}`
	}
	c.apply(config("a", "1GiB"))
	if c.world.Settings.Label != "a" {
		t.Errorf("the label is %q", c.world.Settings.Label)
	}
	c.settled(config("a", "1GiB"))
	c.contains(c.apply(config("b", "2GiB")), "The provider block depends on", "1 added, 1 changed, 1 destroyed")
	if got := c.world.Things["n"]; c.world.Settings.Label != "b" || got.Size != 2*resources.GiB {
		t.Errorf("label %q, made %+v", c.world.Settings.Label, got)
	}
}
