// Package pulumitest runs Pulumi programs with the real engine, by its
// Automation API: the program runs in this process, so that no language host is
// needed, and all of the engine's files are in one directory.
package pulumitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Options say what runs, and where.
type Options struct {
	// Root is the directory of this repository.
	Root string
	// Dir keeps the stack's state, secrets and plugins.
	Dir string
	// Project is the name of the program.
	Project string
	Program pulumi.RunFunc
	// Env are environment variables beside this process's.
	Env map[string]string
}

// Stack makes a stack, or opens it where it is there already. The plugin is that
// of build/bin, in the place where `make install` puts it.
func Stack(ctx context.Context, o Options) (auto.Stack, error) {
	command, err := find(o.Root)
	if err != nil {
		return auto.Stack{}, err
	}
	for _, dir := range []string{"home", "state", "work"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o700); err != nil {
			return auto.Stack{}, err
		}
	}
	if err := install(o); err != nil {
		return auto.Stack{}, fmt.Errorf("install the plugin: %w", err)
	}
	env := map[string]string{
		"PULUMI_HOME": filepath.Join(o.Dir, "home"), "PULUMI_BACKEND_URL": "file://" + filepath.Join(o.Dir, "state"),
		"PULUMI_CONFIG_PASSPHRASE": "of a test", "PULUMI_SKIP_UPDATE_CHECK": "true", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
	}
	maps.Copy(env, o.Env)
	return auto.UpsertStackInlineSource(ctx, "dev", o.Project, o.Program, auto.Pulumi(command), auto.EnvVars(env),
		auto.WorkDir(filepath.Join(o.Dir, "work")), auto.PulumiHome(filepath.Join(o.Dir, "home")),
		auto.Project(workspace.Project{Name: tokens.PackageName(o.Project), Runtime: workspace.NewProjectRuntimeInfo("go", nil)}))
}

func install(o Options) error {
	plugin, err := filepath.Abs(filepath.Join(o.Root, "build/bin/pulumi-resource-skerry"))
	if err != nil {
		return err
	}
	dir := filepath.Join(o.Dir, "home/plugins/resource-skerry-v0.1.0")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(plugin, filepath.Join(dir, "pulumi-resource-skerry")); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// find gives the CLI, which is built where it isn't there yet.
func find(root string) (auto.PulumiCommand, error) {
	c := exec.Command(filepath.Join(root, "scripts/pulumi-cli"))
	var said bytes.Buffer
	c.Stderr = &said
	path, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("find the Pulumi CLI: %w: %s", err, said.String())
	}
	return auto.NewPulumiCommand(&auto.PulumiCommandOptions{Root: filepath.Dir(filepath.Dir(strings.TrimSpace(string(path))))})
}
