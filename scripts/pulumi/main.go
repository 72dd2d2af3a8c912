// Command pulumi makes the SDK of a language from a package schema. Its module is
// also that of the Pulumi CLI; neither can share one with skerry.
//
//	pulumi -schema FILE -language go|nodejs|python -out DIRECTORY
//
// The directory is replaced.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/blang/semver"
	gosdk "github.com/pulumi/pulumi/pkg/v3/codegen/go"
	"github.com/pulumi/pulumi/pkg/v3/codegen/nodejs"
	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

const tool = "make generate"

func main() {
	log.SetFlags(0)
	log.SetPrefix("sdk: ")
	from := flag.String("schema", "", "file of the package schema")
	language := flag.String("language", "go", "go, nodejs or python")
	out := flag.String("out", "", "directory of the SDK")
	flag.Parse()
	files, err := generate(*from, *language)
	if err == nil {
		err = write(*out, files)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func generate(from, language string) (map[string][]byte, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	var spec schema.PackageSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	pkg, problems, err := schema.BindSpec(spec, alone{}, schema.ValidationOptions{})
	if err != nil {
		return nil, err
	}
	if problems.HasErrors() {
		return nil, fmt.Errorf("%s: %w", from, problems)
	}
	switch language {
	case "go":
		return gosdk.GeneratePackage(tool, pkg, nil)
	case "nodejs":
		return nodejs.GeneratePackage(tool, pkg, nil, nil, false, alone{})
	case "python":
		return python.GeneratePackage(tool, pkg, nil, alone{})
	default:
		return nil, fmt.Errorf("there is no SDK for %q", language)
	}
}

// alone is for a schema that refers to no other.
type alone struct{}

var errAlone = errors.New("the schema refers to another one")

func (alone) LoadPackage(string, *semver.Version) (*schema.Package, error) { return nil, errAlone }

func (alone) LoadPackageV2(context.Context, *schema.PackageDescriptor) (*schema.Package, error) {
	return nil, errAlone
}

func (alone) LoadPackageReference(string, *semver.Version) (schema.PackageReference, error) {
	return nil, errAlone
}

func (alone) LoadPackageReferenceV2(context.Context, *schema.PackageDescriptor) (schema.PackageReference, error) {
	return nil, errAlone
}

func write(out string, files map[string][]byte) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
