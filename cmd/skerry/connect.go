package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// endpointEnv holds the endpoint of the cluster, for those who look after one
// from afar.
const endpointEnv = "SKERRY_ENDPOINT"

// reach is how a command reaches the cluster.
type reach struct {
	endpoint, key string
	logger        func() *slog.Logger
}

func reachFlags(c *cobra.Command, logger func() *slog.Logger) *reach {
	r := &reach{logger: logger}
	c.Flags().StringVar(&r.endpoint, "endpoint", "", "endpoint of the cluster, as skerry_cluster gives it (default $"+endpointEnv+", or this machine's server)")
	c.Flags().StringVar(&r.key, "ssh-key", "", "private key to log in with")
	return r
}

// with calls do with the cluster's API.
func (r *reach) with(do func(*client.Server) error) error {
	endpoints, err := resources.ParseEndpoints(cmp.Or(r.endpoint, os.Getenv(endpointEnv), "unix://"+resources.ServerSocket))
	if err != nil {
		return fmt.Errorf("read --endpoint: %w", err)
	}
	dialer := client.NewDialer(client.Options{Key: r.key, Agent: true, Log: r.logger()})
	defer dialer.Close()
	return do(dialer.Server(endpoints...))
}

// lister is a command that shows what it has found: as a table, or as the API's
// own JSON.
func lister[T any](use, short string, args cobra.PositionalArgs, logger func() *slog.Logger, find func(*cobra.Command, *client.Server, []string) (T, error), show func(io.Writer, T)) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args}
	r := reachFlags(c, logger)
	asJSON := c.Flags().Bool("json", false, "print JSON, as the API has it")
	c.RunE = func(c *cobra.Command, args []string) error {
		return r.with(func(control *client.Server) error {
			found, err := find(c, control, args)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), found)
			}
			show(c.OutOrStdout(), found)
			return nil
		})
	}
	return c
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printLine prints a value on one line, for programs that read along.
func printLine(out io.Writer, value any) error { return json.NewEncoder(out).Encode(value) }

// table prints rows below a header, whose columns are separated by blanks.
func table(out io.Writer, header string, rows func(row func(cells ...any))) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, cell := range cells {
			texts[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t "))
	})
	w.Flush() //nolint:errcheck // the terminal has gone
}

// oneOf finds the one thing that a person means: by its name, its ID, or the
// beginning of either that no other thing has.
func oneOf[T any](kind, text string, all []T, names func(T) []string) (T, error) {
	var found []T
	var known []string
	for _, one := range all {
		matches := false
		for _, name := range names(one) {
			if name == text {
				return one, nil
			}
			matches = matches || strings.HasPrefix(name, text)
		}
		if matches {
			found = append(found, one)
		}
		known = append(known, names(one)[0])
	}
	var none T
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return none, fmt.Errorf("there is no %s %q; there are: %s", kind, text, cmp.Or(strings.Join(known, ", "), "none"))
	}
	known = known[:0]
	for _, one := range found {
		known = append(known, names(one)[0])
	}
	return none, fmt.Errorf("%q may be each of the %ss %s; give more of its name", text, kind, strings.Join(known, ", "))
}
