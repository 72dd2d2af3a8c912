package libvirtnodes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/skerry-io/skerry/resources"
)

// record is what a pool keeps of a node, in the volume NAME.skerry.json: who it
// is, how far it has come, and what its user wrote, for an import.
type record struct {
	Version int              `json:"version"`
	ID      resources.NodeID `json:"id"`
	Name    string           `json:"name"`
	State   recordState      `json:"state"`
	// HostKey is the fingerprint of the node's SSH host key.
	HostKey string         `json:"host_key"`
	Node    resources.Node `json:"node"`
	// KeepsData is true where the data disk was there before this create.
	KeepsData bool `json:"keeps_data,omitempty"`
}

// recordState is how far a node has come.
type recordState string

const (
	// creating: a create has begun. Where no process does it any more, the next
	// create removes what is left.
	creating recordState = "creating"
	// ready: the node has been ready once.
	ready recordState = "ready"
	// kept: the VM was removed, and its data disk waits for the next node of
	// its name.
	kept recordState = "kept"
)

// recordSize is the size of a record's volume, in bytes. It never changes, so
// that a record is written over in place.
const recordSize = 64 << 10

func recordVolume(name string) string { return name + ".skerry.json" }

func (r record) encode() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the record of %s: %w", r.Name, err)
	}
	if len(text) > recordSize {
		return nil, fmt.Errorf("write the record of %s: it has %d bytes, and %d is the most: shorten user_data", r.Name, len(text), recordSize)
	}
	return append(text, bytes.Repeat([]byte("\n"), recordSize-len(text))...), nil
}

func decodeRecord(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(bytes.TrimRight(text, "\n\x00"), &r); err != nil {
		return r, fmt.Errorf("read the record: %w", err)
	}
	if r.Version != 1 {
		return r, errors.New("the record was written by a newer version of skerry")
	}
	return r, nil
}

func (p *pool) record(name string) (record, error) {
	text, err := p.read(recordVolume(name), 0)
	if err != nil {
		return record{}, err
	}
	r, err := decodeRecord(text)
	if err != nil {
		return record{}, fmt.Errorf("volume %s: %w", recordVolume(name), err)
	}
	return r, nil
}

func (p *pool) putRecord(r record) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	found, err := p.has(recordVolume(r.Name))
	if err == nil && !found {
		err = p.create(recordVolume(r.Name), "raw", recordSize, "")
	}
	if err == nil {
		err = p.write(recordVolume(r.Name), text)
	}
	if err != nil {
		return fmt.Errorf("keep the record of %s: %w", r.Name, err)
	}
	return nil
}
