package resources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEndpointText(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Endpoint
	}{
		"socket": {"unix:///run/skerry/server.sock", Endpoint{Socket: ServerSocket}},
		"ssh": {
			"ssh://root@192.168.122.10:2222/run/skerry/agent.sock?bastion=me%40big&hostkey=SHA256%3Aa%2Fb%2Bc&hypervisor=qemu%3A%2F%2F%2Fsystem&node=00ff",
			Endpoint{
				Host: "192.168.122.10", Port: "2222", User: "root", Socket: AgentSocket, Node: "00ff",
				HostKey: "SHA256:a/b+c", Bastion: "me@big", Hypervisor: "qemu:///system",
			},
		},
		"ipv6": {"ssh://[fd00::1]/s", Endpoint{Host: "fd00::1", Socket: "/s"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseEndpoint(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if got.String() != c.text {
				t.Errorf("String() = %s; want %s", got, c.text)
			}
		})
	}
}

func TestEndpointRefusals(t *testing.T) {
	for _, text := range []string{"", "/run/s", "http://h/s", "ssh:///s", "unix://host/s", "unix:///", "%zz"} {
		if e, err := ParseEndpoint(text); err == nil {
			t.Errorf("ParseEndpoint(%q) = %+v; want an error", text, e)
		}
	}
}

func TestAMachineIsNamedByWhereItIs(t *testing.T) {
	for text, want := range map[string]Endpoint{
		"ssh://h":                         {Host: "h", Socket: AgentSocket},
		"ssh://admin@h:2222/":             {Host: "h", Port: "2222", User: "admin", Socket: AgentSocket},
		"ssh://root@h?hostkey=SHA256:a+b": {Host: "h", User: "root", Socket: AgentSocket, HostKey: "SHA256:a+b"},
	} {
		got, err := ParseEndpoint(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" || !got.Given() {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func TestEndpointsAreSorted(t *testing.T) {
	all, err := ParseEndpoints("unix:///b, unix:///a")
	if err != nil {
		t.Fatal(err)
	}
	if got := FormatEndpoints(all); got != "unix:///a,unix:///b" {
		t.Error(got)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add("ssh://root@[fd00::1]:22/run/skerry/agent.sock?node=1&hostkey=SHA256:x")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text)
		if err != nil {
			return
		}
		again, err := ParseEndpoint(e.String())
		if err != nil || again != e {
			t.Errorf("%q became %+v, whose text %q gives %+v, %v", text, e, e, again, err)
		}
	})
}
