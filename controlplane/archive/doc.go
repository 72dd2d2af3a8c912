// Package archive reads an image out of an archive, the tar file that `podman
// save`, `docker save`, `skopeo copy` and the build tools write, and pushes it
// to the cluster's registry.
//
// There are two forms. An OCI archive is a tar of an OCI image layout: its image
// keeps its digest, with every platform of a multi-arch one. A docker archive has
// layers and a configuration but no manifest, so one is made, of nothing but what
// is in the archive: the same layers and configuration give the same digest,
// whatever the archive's order, tags and times. It is a manifest of Docker's kind,
// since one of OCI's has no health check. Some `docker save` files are both, and are
// read as OCI archives.
//
// [Open] reads the manifests, the configurations and the tar's headers, and of a
// docker archive also the layers, to know their digests. An image that is not whole
// is refused there, before anything is sent. The content of an OCI archive's layers
// is checked as it is pushed.
//
// What is wrong with a file is said in words for the person who wrote it down in a
// configuration.
package archive
