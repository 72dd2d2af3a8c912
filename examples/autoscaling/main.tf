# Services that grow and shrink with what they have to do: by the processor time
# that they use, by a metric of their own, and by the queue of another one, from no
# replica at all. Windows are short here, so that it can be watched:
#
#   skerry autoscale explain web

terraform {
  required_providers {
    skerry = {
      source = "registry.terraform.io/skerry-io/skerry"
    }
  }
}

variable "servers" {
  description = "Endpoints of 1, 3 or 5 machines, as in ssh://root@10.0.0.11, or what `skerry dev` prints."
  type        = list(string)
}

variable "archive" {
  description = "Docker archive of the image to run: a web server on port 8080 that exposes web_queue_length at /metrics."
  type        = string
}

variable "queue_address" {
  description = "Address of any of the machines, at which the servers reach the queue."
  type        = string
}

resource "skerry_cluster" "home" {
  name    = "home"
  servers = var.servers
}

resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = var.archive
}

# Between one and four replicas, so that each uses half of its processor time.
resource "skerry_service" "web" {
  cluster    = skerry_cluster.home.endpoint
  name       = "web"
  image      = skerry_image.web.reference
  ports      = [{ target = 8080, published = 8080 }]
  resources  = { cpu = "100m", memory = "32MiB" }
  stop_grace = "5s"
  autoscale = {
    min  = 1
    max  = 4
    cpu  = 50
    down = { window = "15s" }
  }
}

# One replica for each ten jobs that its replicas say they have.
resource "skerry_service" "jobs" {
  cluster   = skerry_cluster.home.endpoint
  name      = "jobs"
  image     = skerry_image.web.reference
  ports     = [{ target = 8080, published = 8081 }]
  resources = { cpu = "100m", memory = "32MiB" }
  autoscale = {
    min     = 1
    max     = 3
    metrics = [{ name = "web_queue_length", port = 8080, target_average = 10 }]
    down    = { window = "15s" }
  }
}

resource "skerry_service" "queue" {
  cluster   = skerry_cluster.home.endpoint
  name      = "queue"
  image     = skerry_image.web.reference
  ports     = [{ target = 8080, published = 8082 }]
  resources = { cpu = "100m", memory = "32MiB" }
}

# Nothing runs while the queue is empty.
resource "skerry_service" "worker" {
  cluster   = skerry_cluster.home.endpoint
  name      = "worker"
  image     = skerry_image.web.reference
  replicas  = 0 # to begin with
  resources = { cpu = "100m", memory = "32MiB" }
  autoscale = {
    min     = 0
    max     = 3
    metrics = [{ name = "web_queue_length", url = "http://${var.queue_address}:8082/metrics", target_average = 10 }]
    down    = { window = "15s" }
  }
}
