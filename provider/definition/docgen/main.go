// Command docgen writes the doc comments of struct fields as a Go map, for go
// generate; see package fielddocs.
//
//	docgen [-check] -out FILE DIRECTORY...
package main

import (
	"flag"
	"log"
	"os"

	"github.com/skerry-io/skerry/provider/definition/fielddocs"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("docgen: ")
	out := flag.String("out", "docs_gen.go", "file to write")
	check := flag.Bool("check", false, "fail where the file is not up to date, and write nothing")
	flag.Parse()
	if *check {
		if err := fielddocs.Check(*out, flag.Args()...); err != nil {
			log.Fatal(err)
		}
		return
	}
	content, err := fielddocs.Generate(*out, flag.Args()...)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*out, content, 0o644); err != nil {
		log.Fatal(err)
	}
}
