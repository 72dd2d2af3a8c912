package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

func secretsCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "secrets", Short: "Look after secrets, whose values nobody is shown"}
	c.AddCommand(secretListCommand(logger), rotateKeyCommand(logger))
	return c
}

func secretListCommand(logger func() *slog.Logger) *cobra.Command {
	return lister("ls", "List the secrets", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.SecretStatus, error) {
			return control.Secrets(c.Context())
		}, printSecrets)
}

func printSecrets(out io.Writer, secrets []resources.SecretStatus) {
	table(out, "SECRET VERSION SERVICES", func(row func(...any)) {
		for _, s := range secrets {
			row(s.Secret.Name, s.Secret.Version, servicesOf(s.Services))
		}
	})
}

func configsCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "configs", Short: "Look at configs"}
	list := lister("ls", "List the configs", cobra.NoArgs, logger,
		func(c *cobra.Command, control *client.Server, _ []string) ([]resources.ConfigStatus, error) {
			return control.Configs(c.Context())
		}, printConfigs)
	show := &cobra.Command{Use: "show CONFIG", Short: "Print what is in a config", Args: cobra.ExactArgs(1)}
	r := reachFlags(show, logger)
	show.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			config, err := control.Config(c.Context(), args[0])
			if err == nil {
				_, err = c.OutOrStdout().Write(config.Content)
			}
			return err
		})
	}
	c.AddCommand(list, show)
	return c
}

func printConfigs(out io.Writer, configs []resources.ConfigStatus) {
	table(out, "CONFIG SIZE SHA256 SERVICES", func(row func(...any)) {
		for _, c := range configs {
			row(c.Config.Name, short(c.Size), c.SHA256[:min(12, len(c.SHA256))], servicesOf(c.Services))
		}
	})
}

func servicesOf(all []resources.ServiceRevision) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Service)
	}
	return strings.Join(names, ",")
}

func rotateKeyCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{
		Use: "rotate-key", Short: "Seal all secrets with a new key", Args: cobra.NoArgs,
		Long: "Make a new key, seal all secrets, configs and passwords in the store with it, and forget the old one. Every server has to\n" +
			"have the new key before anything is sealed with it. Where it is cut off, nothing is lost: do it again.\n" +
			"Snapshots that were taken before have the old key, and open as before.",
	}
	r := reachFlags(c, logger)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return r.with(func(control *client.Server) error {
			rotation, err := control.RotateKey(c.Context())
			if err != nil {
				return err
			}
			c.Printf("%d values are sealed with the new key, %s\n", rotation.Resealed, rotation.Key)
			if len(rotation.Late) > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "the old key is still in the file of the servers that did not answer, until the next rotation: %s\n", strings.Join(rotation.Late, ", "))
			}
			return nil
		})
	}
	return c
}
