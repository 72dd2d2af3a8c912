package provider

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/controlplane/api"
)

func TestTheLifeOfANetwork(t *testing.T) {
	ctx := t.Context()
	connections, err := connect(slog.New(slog.DiscardHandler), "1.2.3")(ctx, &Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connections.machines.Close)
	blue := &Network{Cluster: controlPlane(t)}
	blue.Name = "blue"
	blue.SetDefaults()
	if problems := network.Check(blue); len(problems) > 0 {
		t.Error(problems)
	}
	if err := network.Create(ctx, connections, blue); err != nil || blue.CIDR != "10.112.0.0/16" {
		t.Fatalf("it was given %q, %v", blue.CIDR, err)
	}
	imported, err := network.Import(ctx, connections, "blue@"+blue.Cluster)
	if err != nil || *imported != *blue {
		t.Errorf("the import gives %+v, %v", imported, err)
	}

	s := &Service{Cluster: blue.Cluster}
	s.Name, s.Replicas, s.Image, s.Networks = "web", 1, "localhost/web:1", []string{"blue"}
	s.SetDefaults()
	if err := createService(ctx, connections, s); err != nil {
		t.Fatal(err)
	}
	moved := *blue
	moved.CIDR = "10.40.0.0/16"
	if err := network.Update(ctx, connections, blue, &moved); !api.IsConflict(err) || !strings.Contains(err.Error(), "services are on it: web") {
		t.Errorf("other addresses of one in use: %v", err)
	}
	// What goes at the same time is waited for.
	removed := make(chan error, 1)
	go func() {
		_, err := network.Delete(ctx, connections, blue)
		removed <- err
	}()
	if _, err := services.delete(ctx, connections, s); err != nil {
		t.Fatal(err)
	}
	if err := <-removed; err != nil {
		t.Errorf("the removal: %v", err)
	}
	if reading, err := network.Read(ctx, connections, blue); err != nil || !reading.Gone {
		t.Errorf("after the removal: %+v, %v", reading, err)
	}
	if _, err := network.Delete(ctx, connections, blue); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}
