package podmanruntime

import (
	"errors"
	"net/http"
	"strings"

	"github.com/containers/podman/v4/pkg/errorhandling"

	"github.com/skerry-io/skerry/resources"
)

// reasons are told by what Podman's errors say: the API has status codes for
// "not found" and "conflict", and 500 with a sentence for everything else.
// The sentences are those of libpod (libpod/define/errors.go, the same in 4.3
// and 5.4), of the Go net package, and of runc and crun where Podman passes
// theirs on.
var reasons = []struct {
	says   string
	reason resources.Reason
}{
	{"OCI runtime attempted to invoke a command that was not found", resources.ReasonCommandNotFound},
	{"executable file not found in $PATH", resources.ReasonCommandNotFound},
	{"OCI permission denied", resources.ReasonCommandNotFound},
	{"no command or entrypoint provided", resources.ReasonCommandNotFound},
	{"image not known", resources.ReasonImagePull},
	{"address already in use", resources.ReasonPortTaken},
	{"port is already allocated", resources.ReasonPortTaken},
}

// classify wraps err as a *resources.Failure: with the reason that its words
// tell, or else with the one given.
func classify(err error, otherwise resources.Reason) error {
	for _, r := range reasons {
		if strings.Contains(err.Error(), r.says) {
			return &resources.Failure{Reason: r.reason, Err: err}
		}
	}
	return &resources.Failure{Reason: otherwise, Err: err}
}

// isStatus tells whether err is an answer of Podman's with that status code.
func isStatus(err error, code int) bool {
	var answer *errorhandling.ErrorModel
	return errors.As(err, &answer) && answer.ResponseCode == code
}

func isNotFound(err error) bool { return isStatus(err, http.StatusNotFound) }

// isImproperState tells whether Podman refused a step that the container's
// state doesn't allow: with 409 in newer versions, in words alone in 4.3.
func isImproperState(err error) bool {
	return isStatus(err, http.StatusConflict) || strings.Contains(err.Error(), "container state improper")
}

// isDamaged tells whether Podman's storage can't read a container that it has:
// its storage writes the files by which layers are found without waiting for
// the disk, and a power loss within the next seconds leaves them empty.
func isDamaged(err error) bool {
	return strings.Contains(err.Error(), "getting graph driver info") && !isNotFound(err)
}

// endedTooSoon tells whether Podman's start tripped over a process that ended
// while Podman was still looking at it. The container has run, all the same.
func endedTooSoon(err error) bool {
	return strings.Contains(err.Error(), "/proc/") && strings.Contains(err.Error(), "no such process")
}
