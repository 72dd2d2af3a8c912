# A cluster on Debian machines that are there already: three servers, and as many
# workers as you like. Nothing has to be installed on them but Podman, which the
# first apply tells you how to install where it is missing.

terraform {
  required_providers {
    skerry = {
      source = "registry.terraform.io/skerry-io/skerry"
    }
  }
}

variable "servers" {
  description = "Endpoints of 1, 3 or 5 machines for the control plane, as in ssh://root@10.0.0.11."
  type        = list(string)
}

variable "workers" {
  description = "Endpoints of the other machines."
  type        = list(string)
  default     = []
}

variable "skerry_version" {
  description = "Version of skerry on the machines: that of the plugin. They stay at what they run unless given."
  type        = string
  default     = null
}

variable "ssh_key" {
  description = "Private key to log in to the machines with. Your SSH agent's and ~/.ssh unless given."
  type        = string
  default     = null
}

variable "image" {
  description = "Container image to run. It listens on port 8080."
  type        = string
}

provider "skerry" {
  ssh = { key = var.ssh_key }
}

resource "skerry_cluster" "home" {
  name    = "home"
  version = var.skerry_version
  servers = var.servers
  workers = var.workers
}

resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = var.image
  replicas  = 2
  resources = { cpu = "100m", memory = "64MiB" }
  ports     = [{ target = 8080, published = 80 }]
}

output "nodes" {
  description = "IDs of the nodes, by what you call their machines."
  value       = zipmap(concat(var.servers, var.workers), skerry_cluster.home.nodes)
}

output "version" {
  description = "Version of skerry that the machines run."
  value       = skerry_cluster.home.version
}
