// Cmd writes the web image of the tests and the demo as a docker archive:
//
//	go run ./test/images/cmd -o build/web.tar
package main

import (
	"flag"
	"log"
	"runtime"

	"github.com/skerry-io/skerry/test/images"
)

func main() {
	log.SetFlags(0)
	path := flag.String("o", "build/web.tar", "archive to write")
	version := flag.String("version", "1", "version that the image claims to be")
	arch := flag.String("arch", runtime.GOARCH, "architecture of the image")
	flag.Parse()
	if err := images.Write(*path, *version, *arch); err != nil {
		log.Fatal(err)
	}
}
