package resources

import "time"

// ReplicaID names one replica for ever: the service's name, the slot, and a
// random suffix, as in "web-0-k3f9qz". It is also its container's name, behind
// the prefix "skerry-".
type ReplicaID string

// Replica is one run of a service on one node. Server and agent share it: the
// leader writes it, and the agent of its node makes it true. It never changes
// but for Wanted, and is replaced instead.
type Replica struct {
	ID       ReplicaID `json:"id"`
	Service  string    `json:"service"`
	Slot     int       `json:"slot"`
	Revision int       `json:"revision"`
	// Node that runs it, or empty while it waits for a place.
	Node NodeID `json:"node,omitempty"`
	// Only is the one node that may run it, where its service is global.
	Only NodeID `json:"only,omitempty"`
	// Wanted is false once the replica has to stop. It is deleted when its
	// agent says that it is gone.
	Wanted bool `json:"wanted"`
	// ImageDigest is what Template.Image came to for this revision
	// (`sha256:HEX`), or empty where only the node knows the image.
	ImageDigest string   `json:"image_digest,omitempty"`
	Template    Template `json:"template"`
	// Contents are those of its secrets and configs.
	Contents ContentNumbers `json:"contents,omitempty"`
	// Addresses of the replica, in the order of its networks. It has none while it
	// has no node, or on a node that is on no network; see NodeOverlay.
	Addresses []NetworkAddress `json:"addresses,omitempty"`
	Created   time.Time        `json:"created"`
	// Waiting says why the replica has no node yet.
	Waiting string `json:"waiting,omitempty"`
	// MayWait is true where the replica can wait: a node that is silent now could
	// take it, or others stop to make room for it.
	MayWait bool `json:"may_wait,omitempty"`
}

// ReplicaState is the lifecycle of a replica as its node sees it. It moves
// forward through the first five; Backoff returns to Starting.
type ReplicaState string

// The states of a replica.
const (
	ReplicaPending  ReplicaState = "pending"  // no node, or the node has not looked yet
	ReplicaPulling  ReplicaState = "pulling"  // the image is on its way
	ReplicaStarting ReplicaState = "starting" // the container is being made or started
	ReplicaRunning  ReplicaState = "running"  // the container runs
	ReplicaStopping ReplicaState = "stopping" // the stop signal was sent
	ReplicaBackoff  ReplicaState = "backoff"  // it failed, and is started again later
	ReplicaExited   ReplicaState = "exited"   // it ended, and the restart policy leaves it so
	ReplicaGone     ReplicaState = "gone"     // nothing of it is left on the node
	ReplicaLost     ReplicaState = "lost"     // its node is given up; nobody knows what it does there
)

// ReplicaStatus is what the agent saw of one replica.
type ReplicaStatus struct {
	ID    ReplicaID    `json:"id"`
	State ReplicaState `json:"state"`
	// NotReady is true while a running replica does not do its work yet, or not
	// any more: see Service.Health.
	NotReady bool `json:"not_ready,omitempty"`
	// Reason is a short word for a failure (see the Reason constants), empty
	// where all is well.
	Reason Reason `json:"reason,omitempty"`
	// Message is a sentence for people: what failed, with Podman's words.
	Message string `json:"message,omitempty"`
	// ExitCode of the last run that ended; nil before any did.
	ExitCode *int `json:"exit_code,omitempty"`
	// LogTail is the last lines of the last run that failed.
	LogTail []string `json:"log_tail,omitempty"`
	// Failures counts the failed runs and attempts since it last ran well.
	Failures int `json:"failures,omitempty"`
	// Restarts counts how often the container was started again.
	Restarts int `json:"restarts,omitempty"`
	// Address of the container on its node, where it has one.
	Address string `json:"address,omitempty"`
	// StartedAt is when the present run began.
	StartedAt time.Time `json:"started_at,omitzero"`
	// PreviousStartedAt is when the run began that ended last; zero where none has,
	// or the agent began since.
	PreviousStartedAt time.Time `json:"previous_started_at,omitzero"`
	// ReadySince is when the leader first heard that the present run is ready.
	// The leader writes it, by its own clock, and the agent never does.
	ReadySince time.Time `json:"ready_since,omitzero"`
	// ContainerID is Podman's.
	ContainerID string `json:"container_id,omitempty"`
}

// Reason is why a replica does not run.
type Reason string

// The reasons for which a replica does not run, or does not do its work.
const (
	ReasonImagePull       Reason = "ImagePullFailed"
	ReasonCommandNotFound Reason = "CommandNotFound"
	ReasonPortTaken       Reason = "PortTaken"
	ReasonOutOfMemory     Reason = "OutOfMemory"
	ReasonCrashed         Reason = "Crashed"
	ReasonCreateFailed    Reason = "CreateFailed"
	ReasonNotReady        Reason = "NotReady"  // it runs, and its readiness probe fails
	ReasonUnhealthy       Reason = "Unhealthy" // its startup or liveness probe failed, so it was ended
	ReasonNoPlace         Reason = "NoPlace"
)
