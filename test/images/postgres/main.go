// Postgres is the first process of the tests' database: it makes the data directory
// where there is none, as the user postgres with the password that it was given, and
// becomes PostgreSQL. With arguments it runs them as SQL, one after the other, and
// writes what comes of them, as psql does.
//
// The environment steers it:
//
//	PGDATA                  where the data is
//	POSTGRES_PASSWORD_FILE  the file with the password of the user postgres
//	POSTGRES_PASSWORD       the password itself, where there is no file
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// user is postgres, in the image's /etc/passwd.
const user = 999

func main() {
	log.SetFlags(0)
	var err error
	if len(os.Args) > 1 {
		err = ask(os.Args[1:])
	} else {
		err = serve()
	}
	log.Fatal(err)
}

func password() (string, error) {
	path := os.Getenv("POSTGRES_PASSWORD_FILE")
	if path == "" {
		return os.Getenv("POSTGRES_PASSWORD"), nil
	}
	text, err := os.ReadFile(path)
	return strings.TrimSuffix(string(text), "\n"), err
}

// ask becomes psql.
func ask(statements []string) error {
	secret, err := password()
	if err != nil {
		return err
	}
	args := []string{"psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--host=127.0.0.1", "--username=postgres", "--set=ON_ERROR_STOP=1"}
	for _, s := range statements {
		args = append(args, "--command="+s)
	}
	return become(args, append(os.Environ(), "PGPASSWORD="+secret, "PGCONNECT_TIMEOUT=10"))
}

// serve becomes PostgreSQL.
func serve() error {
	data := os.Getenv("PGDATA")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.Chown(data, user, user), os.Chmod(data, 0o700)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := initialize(data); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(user), syscall.Setuid(user)); err != nil {
		return err
	}
	return become([]string{"postgres", "-D", data, "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp"}, os.Environ())
}

func initialize(data string) error {
	secret, err := password()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "password-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it is in the container's own file system
	if _, err := file.WriteString(secret); err != nil {
		return err
	}
	if err := errors.Join(file.Chown(user, user), file.Close()); err != nil {
		return err
	}
	c := exec.Command("initdb", "--pgdata="+data, "--username=postgres", "--pwfile="+file.Name(), "--auth=scram-sha-256", "--locale=C.UTF-8")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if err := c.Run(); err != nil {
		return err
	}
	hba, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = hba.WriteString("host all all all scram-sha-256\n")
	return errors.Join(err, hba.Close())
}

func become(args, env []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, env)
}
