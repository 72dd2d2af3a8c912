package pulumi_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// generate makes an SDK of the committed schema.
func generate(t *testing.T, language, dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds what makes the SDKs")
	}
	run(t, "", "../../scripts/sdk", language, dir)
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// files are those below a directory, with their content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTheGoSDKIsUpToDate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "go")
	generate(t, "go", dir)
	want, there := files(t, dir), files(t, "../../sdk/go")
	for name := range there {
		if _, wanted := want[name]; !wanted {
			t.Errorf("sdk/go%s is left from an earlier schema: run make generate", name)
		}
	}
	for name, content := range want {
		if !cmp.Equal(content, there[name]) {
			t.Errorf("sdk/go%s is not up to date: run make generate", name)
		}
	}
}

// examples are those of a language in the schema, by resource.
func examples(t *testing.T, language string) map[string]string {
	t.Helper()
	var schema struct {
		Resources map[string]struct{ Description string }
	}
	text, err := os.ReadFile("schema.json")
	if err == nil {
		err = json.Unmarshal(text, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```")
	all := map[string]string{}
	for token, r := range schema.Resources {
		found := block.FindStringSubmatch(r.Description)
		if found == nil {
			t.Fatalf("%s has no example in %s", token, language)
		}
		all[token[strings.LastIndex(token, ":")+1:]] = found[1]
	}
	return all
}

// What the examples refer to.
var others = map[string]string{
	"home": "Cluster", "one": "Node", "two": "Node", "three": "Node", "four": "Node", "backend": "Network", "database": "Volume",
}

func TestTheExamplesInGoCompile(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles")
	}
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n\t\"github.com/pulumi/pulumi/sdk/v3/go/pulumi\"\n\t\"github.com/skerry-io/skerry/sdk/go/skerry\"\n)\n\nfunc main() {}\n\nvar (\n")
	for name, class := range others {
		fmt.Fprintf(&b, "\t%s *skerry.%s\n", name, class)
	}
	b.WriteString(")\n")
	for class, example := range examples(t, "go") {
		variable, _, _ := strings.Cut(example, ",")
		fmt.Fprintf(&b, "\nfunc make%s(ctx *pulumi.Context) error {\n%s\n_ = %s\nreturn nil\n}\n", class, example, variable)
	}
	path := filepath.Join(t.TempDir(), "main.go")
	write(t, path, b.String())
	run(t, "../..", "go", "vet", path)
}

func TestTheTypeScriptSDKChecks(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("there is no npm")
	}
	tools, err := filepath.Abs("../../build/tools/typescript")
	if err != nil {
		t.Fatal(err)
	}
	sdk := filepath.Join(tools, "sdk") // below the packages that it needs
	generate(t, "nodejs", sdk)
	const packages = `{"private": true, "dependencies": {"@pulumi/pulumi": "3.142.0", "typescript": "4.9.5", "@types/node": "20.17.0"}}`
	if there, err := os.ReadFile(filepath.Join(tools, "package.json")); err != nil || string(there) != packages {
		write(t, filepath.Join(tools, "package.json"), packages)
		run(t, tools, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	}
	var b strings.Builder
	b.WriteString("import * as skerry from \"./index\";\n")
	for name, class := range others {
		fmt.Fprintf(&b, "declare const %s: skerry.%s;\n", name, class)
	}
	for _, example := range examples(t, "typescript") {
		_, statement, _ := strings.Cut(example, ";\n")
		fmt.Fprintf(&b, "{%s}\n", statement)
	}
	write(t, filepath.Join(sdk, "examples.ts"), b.String())
	run(t, sdk, "../node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--target", "ES2022", "--module", "nodenext", "--moduleResolution", "nodenext", "examples.ts")
	run(t, sdk, "../node_modules/.bin/tsc", "--noEmit", "-p", ".")
}

func TestThePythonSDKCompiles(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no Python")
	}
	dir := filepath.Join(t.TempDir(), "python")
	generate(t, "python", dir)
	for class, example := range examples(t, "python") {
		write(t, filepath.Join(dir, "example_"+class+".py"), example)
	}
	run(t, dir, "python3", "-m", "compileall", "-q", ".")
}
