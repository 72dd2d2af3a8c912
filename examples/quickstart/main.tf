# A virtual machine, a control plane on it, and a service that answers over
# HTTP, in one apply. `make demo` runs this with everything it needs.

terraform {
  required_providers {
    skerry = {
      source = "registry.terraform.io/skerry-io/skerry"
    }
  }
}

variable "hypervisor" {
  description = "Libvirt URI of the hypervisor."
  type        = string
  default     = "qemu:///system"
}

variable "pool" {
  description = "Storage pool of the hypervisor for the node's disks."
  type        = string
  default     = "default"
}

variable "network" {
  description = "Libvirt network that the node is attached to."
  type        = string
  default     = "default"
}

variable "name" {
  description = "Name of the node's virtual machine."
  type        = string
  default     = "quickstart"
}

variable "image" {
  description = "Node image: a path or a URL. `make image` builds this one."
  type        = string
  default     = "../../build/image/skerry-node-trixie.qcow2"
}

variable "archive" {
  description = "Container image to run, as `podman save` writes it. It listens on port 8080. `go run ./test/images/cmd` builds this one."
  type        = string
  default     = "../../build/web.tar"
}

variable "ssh_key" {
  description = "Private key to log in to the node with. Your SSH agent's and ~/.ssh unless given."
  type        = string
  default     = null
}

variable "greeting" {
  description = "What the service says."
  type        = string
  default     = "Hello from a skerry"
}

provider "skerry" {
  hypervisor = var.hypervisor
  ssh        = { key = var.ssh_key }
}

resource "skerry_node" "one" {
  name      = var.name
  image     = { source = var.image }
  pool      = var.pool
  cpus      = 2
  memory    = "1GiB"
  disk      = "4GiB"
  data_disk = { size = "2GiB" }
  networks  = [{ network = var.network }]
}

resource "skerry_cluster" "home" {
  name    = "home"
  servers = [skerry_node.one.endpoint]
}

# The image goes into the cluster's own registry: no other one is needed.
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = var.archive
}

resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = skerry_image.web.reference
  replicas  = 1
  env       = { GREETING = var.greeting }
  resources = { cpu = "100m", memory = "64MiB" }
  ports     = [{ target = 8080, published = 80 }]
}

output "url" {
  description = "Where the service answers."
  value       = "http://${skerry_node.one.address}"
}

output "address" {
  description = "Address of the node, for `ssh root@...`."
  value       = skerry_node.one.address
}

output "cluster" {
  description = "Endpoint of the cluster, for `skerry status --endpoint ...`."
  value       = skerry_cluster.home.endpoint
}
