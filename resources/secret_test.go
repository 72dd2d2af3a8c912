package resources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFilesOfATemplate(t *testing.T) {
	zero, many := 0, 2000
	template := Template{
		User: "1000:100",
		Secrets: []SecretMount{
			{Secret: "db"}, {Secret: "token", Env: "TOKEN"}, {Secret: "db", FileMount: FileMount{Path: "/etc/db", Mode: "440", UID: &zero, GID: &many}},
		},
		Configs: []ConfigMount{{Config: "site"}},
	}
	want := []File{
		{Content: "secret/db", Path: "/run/secrets/db", Mode: 0o400, UID: 1000, GID: 100},
		{Content: "secret/db", Path: "/etc/db", Mode: 0o440, UID: 0, GID: 2000},
		{Content: "config/site", Path: "/run/configs/site", Mode: 0o444, UID: 1000, GID: 100},
	}
	if diff := cmp.Diff(want, template.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	template.User = "postgres"
	if files := template.Files(); files[0].UID != 0 || files[0].GID != 0 {
		t.Errorf("of a user with a name: %+v", files[0])
	}
}

func TestImageHost(t *testing.T) {
	for image, want := range map[string]string{
		"nginx": "docker.io", "team/web:1": "docker.io", "docker.io/library/nginx": "docker.io", "localhost/web": "localhost",
		"registry.lan:5000/web@sha256:00": "registry.lan:5000", "127.0.0.1:6000/web": "127.0.0.1:6000",
	} {
		if got := ImageHost(image); got != want {
			t.Errorf("%s is at %s, want %s", image, got, want)
		}
	}
}

func TestSensitiveIsNotPrinted(t *testing.T) {
	if s := Sensitive("word"); s.String() != "(sensitive)" || s.GoString() != "(sensitive)" || s.LogValue().String() != "(sensitive)" {
		t.Error("it is")
	}
}
