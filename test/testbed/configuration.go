package testbed

import "fmt"

// Configuration is HCL for a cluster on these hosts, an image in it, and a
// service `web` of that image with more attributes.
func Configuration(servers, workers []*Host, archive, service string) string {
	return fmt.Sprintf(`
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%s]
  workers = [%s]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %q
}
resource "skerry_service" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  image   = skerry_image.web.reference
  %s
}
`, Endpoints(servers...), Endpoints(workers...), archive, service)
}
