package resources

import (
	"io"
	"time"
)

// LogOptions say which part of a replica's log is wanted.
type LogOptions struct {
	// Follow goes on with what is written from now on, also by the runs that follow
	// the present one.
	Follow bool `json:"follow,omitempty"`
	// Tail is how many of the last lines there are before that; all where it is
	// negative.
	Tail int `json:"tail"`
	// Since leaves out what was written before, and Until what was written after.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Previous takes the log of the run that ended last, and not the present one's.
	Previous bool `json:"previous,omitempty"`
	// Timestamps begins each line with when it was written (RFC 3339).
	Timestamps bool `json:"timestamps,omitempty"`
}

// Command is a command to run in a replica's container.
type Command struct {
	Args []string `json:"args"`
	// Input is true where the command reads what the caller sends.
	Input bool `json:"input,omitempty"`
	// Terminal gives it a terminal.
	Terminal bool `json:"terminal,omitempty"`
}

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader // nil for a command without input
	Out, Err io.Writer
	// Resize has the sizes of the caller's terminal, in characters; nil where
	// there is none.
	Resize <-chan TerminalSize
}

// TerminalSize is that of a terminal, in characters.
type TerminalSize struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// VolumeTransfer is how a volume's data is read or written.
type VolumeTransfer struct {
	// Pause stops the replicas that mount the volume meanwhile.
	Pause bool `json:"pause,omitempty"`
	// Path in the volume that is copied from or to, where it is not all of it.
	Path string `json:"path,omitempty"`
}
