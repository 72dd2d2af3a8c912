package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

func autoscaleCommand(logger func() *slog.Logger) *cobra.Command {
	c := &cobra.Command{Use: "autoscale", Short: "Look into how services are scaled"}
	c.AddCommand(lister("explain SERVICE", "Show the last decisions about the number of a service's replicas, and why", cobra.ExactArgs(1), logger,
		func(c *cobra.Command, control *client.Server, args []string) (resources.AutoscaleStatus, error) {
			return control.Autoscale(c.Context(), args[0])
		}, printAutoscale))
	return c
}

func printAutoscale(out io.Writer, s resources.AutoscaleStatus) {
	fmt.Fprintf(out, "%s is to have %d replicas, from %d to %d; %d are ready.\n", s.Service, s.Count, s.Autoscale.Min, s.Autoscale.Max, s.Ready)
	if len(s.Decisions) == 0 {
		fmt.Fprintf(out, "\nNothing was decided yet: the leader decides every %s.\n", resources.ScalePeriod)
	}
	for _, d := range s.Decisions {
		fmt.Fprintf(out, "\n%s  %s\n", d.Time.Local().Format(time.DateTime), outcomeOf(d))
		for _, r := range d.Readings {
			fmt.Fprintf(out, "  %s\n", wordsOf(r))
		}
		for _, reason := range d.Reasons {
			fmt.Fprintf(out, "  %s\n", reason)
		}
	}
}

func outcomeOf(d resources.ScaleDecision) string {
	switch {
	case d.From == d.To && d.Wants == d.To:
		return fmt.Sprintf("stays at %d", d.To)
	case d.From == d.To:
		return fmt.Sprintf("stays at %d, where %d are asked for", d.To, d.Wants)
	case d.Wants == d.To:
		return fmt.Sprintf("from %d to %d", d.From, d.To)
	}
	return fmt.Sprintf("from %d to %d, where %d are asked for", d.From, d.To, d.Wants)
}

// wordsOf says what a target came to.
func wordsOf(r resources.ScaleReading) string {
	if r.Problem != "" {
		return fmt.Sprintf("%s (target %s) can't be measured: %s", r.Name, r.Target, r.Problem)
	}
	text := fmt.Sprintf("%s is %s, target %s (ratio %.2f, %d measured", r.Name, orDash(r.Value), r.Target, r.Ratio, r.Measured)
	if r.Unready > 0 {
		text += fmt.Sprintf(", %d not ready", r.Unready)
	}
	if r.Missing > 0 {
		text += fmt.Sprintf(", %d without a value", r.Missing)
	}
	text += fmt.Sprintf("): asks for %d", r.Wants)
	if r.Note != "" {
		text += "; " + r.Note
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
