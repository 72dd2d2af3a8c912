package resources

import "time"

// Container is a replica's container as the runtime of its node sees it.
type Container struct {
	// ID is Podman's.
	ID      string
	Replica ReplicaID
	// Image is the ID of its image.
	Image string
	// Created is true from the creation to the first start.
	Created bool
	Running bool
	// PID of the container's first process while it runs.
	PID        int
	ExitCode   int
	OOMKilled  bool
	StartedAt  time.Time
	FinishedAt time.Time
	// Damaged is true where a power loss has damaged the container, or where the
	// runtime will never learn that it has ended: nothing more is known of it, and
	// it is of no use.
	Damaged bool
	// Address on the node's bridge, where it has one.
	Address string
}

// Failure is an error of the runtime whose reason is known.
type Failure struct {
	Reason Reason
	Err    error
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap gives the runtime's own error.
func (f *Failure) Unwrap() error { return f.Err }
