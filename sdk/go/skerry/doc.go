// Nodes as libvirt VMs, a control plane on them, and self-healing services that run there through Podman.
package skerry
