package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Firewall keeps the table of the network namespace that it is called in. The
// zero value is ready for use; it belongs to one goroutine.
type Firewall struct {
	// applied is the last table that the kernel took; nil where that is not known.
	applied *Table
	// swept is the last rotation that the UDP entries of conntrack were held
	// against; nil where that is not known.
	swept *rotation
}

// Apply makes the kernel's table that of the node, and deletes the UDP entries of
// conntrack that lead to replicas out of the rotation. It is idempotent, and
// returns once it is done; an error has nft's words.
func (f *Firewall) Apply(ctx context.Context, n resources.NodeNetwork) error {
	if err := f.applyTable(ctx, Build(n)); err != nil {
		return fmt.Errorf("apply nftables rules: %w", err)
	}
	next := newRotation(n)
	if f.swept == nil || f.swept.lost(next) {
		f.swept = nil
		if err := next.sweep(); err != nil {
			return err
		}
	}
	f.swept = &next
	return nil
}

func (f *Firewall) applyTable(ctx context.Context, to *Table) error {
	// The last one applied is not there where somebody else changed the table, as
	// `nft flush ruleset` does.
	if f.applied == nil || nft(ctx, change(f.applied, to)) != nil {
		f.applied = nil
		if nft(ctx, change(list(ctx), to)) != nil {
			if err := nft(ctx, replacement(to)); err != nil {
				return err
			}
		}
	}
	f.applied = to
	return nil
}

// Remove takes the table out of the kernel, if it is there.
func (f *Firewall) Remove(ctx context.Context) error {
	*f = Firewall{}
	if err := nft(ctx, removal); err != nil {
		return fmt.Errorf("remove nftables rules: %w", err)
	}
	return nil
}

// list is the table that the kernel has; an empty one where it has none.
func list(ctx context.Context) *Table {
	text, err := output(exec.CommandContext(ctx, "nft", "list", "table", Family, Name))
	if err != nil {
		return &Table{}
	}
	t := parse(string(text))
	return &t
}

// nft has the nft program carry out a transaction.
func nft(ctx context.Context, transaction string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(transaction)
	_, err := output(cmd)
	return err
}

// output runs a program; an error has what it said.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	return stdout.Bytes(), nil
}
