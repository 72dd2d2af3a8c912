package pulumi_test

import (
	"flag"
	"log/slog"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/provider"
	"github.com/skerry-io/skerry/provider/pulumi"
)

var update = flag.Bool("update", false, "write the schema anew")

func TestTheSchemaIsUpToDate(t *testing.T) {
	p, err := provider.New(slog.New(slog.DiscardHandler), "")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := pulumi.Schema(p, "")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile("schema.json")
	if err != nil || !cmp.Equal(string(schema), string(there)) {
		t.Errorf("schema.json is not up to date: run make generate (%v)", err)
	}
}
