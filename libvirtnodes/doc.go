// Package libvirtnodes makes nodes as libvirt VMs, and keeps them as they are
// wanted.
//
// Everything of a node stands in one storage pool, under its name: the root
// disk (an overlay on a base image that all nodes of the pool share), the data
// disk, the seed disk, the console's log, and a record. The record is the
// ownership marker: it says which node this is and how far it has come, so that
// what a killed process left behind is taken up or removed by the next one, and
// nothing else is ever touched. The domain carries the node's ID too.
//
// Create and Repair are one path, ensure: each step looks at what is there and
// makes what is missing. What is made (the domain's XML, the seed's files) is
// made by pure functions; what a downloaded file is, is found out in image.go.
package libvirtnodes
