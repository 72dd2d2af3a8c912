package resources

import "strings"

// Registry is the name of the cluster's own image registry. Each agent serves
// it to its Podman on loopback.
const Registry = "registry.skerry.internal"

// Image is a container image that the cluster keeps in its own registry.
type Image struct {
	// Name of the image in the cluster's registry, such as `web` or `team/web`.
	Name string `json:"name" iac:"replace"`
	// Path of an OCI or docker archive (a tar file) on this machine.
	Archive string `json:"archive"`
}

// Validate returns every problem with what the user wrote.
func (i *Image) Validate() Problems {
	var p Problems
	for part := range strings.SplitSeq(i.Name, "/") {
		if !namePattern.MatchString(part) || len(part) > MaxNameLength {
			p.Addf("name", "%q is not an image's name; use lower-case letters, digits and dashes, with a slash between parts", i.Name)
			break
		}
	}
	if i.Archive == "" {
		p.Addf("archive", "is empty; give the path of an OCI or docker archive, such as `podman save` writes")
	}
	return p
}

// ImageReference gives the reference that a service uses for the image of that
// name and digest (`sha256:HEX`).
func ImageReference(name, digest string) string {
	return Registry + "/" + name + "@" + digest
}

// LocalImage is an image that a node has.
type LocalImage struct {
	// ID is Podman's.
	ID string
	// Size with all layers, those included that other images have, too.
	Size Bytes
	// InUse is true where a container has it, whoever made that.
	InUse bool
	// Pulled is true where skerry has brought it to the node.
	Pulled bool
}
