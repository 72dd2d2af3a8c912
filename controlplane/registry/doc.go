// Package registry is the cluster's own image registry: the distribution
// project's registry over a directory, served inside the control plane, for
// the clusters that have no other.
//
// # What lives
//
// The API under /v2/ stores and serves images. It deletes nothing; an image
// ends only by [Registry.Delete], which takes the manifest, the child manifests
// that no other image needs (of a multi-arch index), and then every blob that no
// manifest refers to. A manifest with a tag is an image of its own: it survives
// the deletion of an index that it is part of. That is why whoever pushes an
// index's children by digest pushes the image itself under a tag.
//
// # Pushes against collection
//
// A push sends the blobs first and the manifest that refers to them last, so in
// between its blobs look unused. The same holds for a blob that a client did
// not send because it saw that it was there. So whatever a client asks about by
// HEAD, mounts or uploads is held for it, before the request is carried out, and
// a collection leaves held things alone. The manifest ends the hold on what it
// refers to. A client that never comes back has its holds for an hour.
//
// Holding and collecting exclude each other by one mutex; no request keeps it
// longer than it takes to note a hold. So a slow upload delays no collection.
package registry
