// Web is the program of the image that tests and the demo run: a web server
// that says who it is, and misbehaves on request.
//
// The environment steers it; a flag of the same meaning comes first.
//
//	GREETING  what it says                          (default "hello")
//	VERSION   the version that it claims            (default the one built in)
//	LISTEN    where it listens                      (default ":8080")
//	EXIT      exit at once with this code
//	EAT       take this many MiB of memory, then serve
//	DEAF      ignore SIGTERM, if not empty
//	ECHO      say what is typed, and exit with this code at its end
//	LINES     write so many numbered lines of 100 bytes first
//
// GET / answers with greeting, host name and version; /env with its
// environment; /crash exits with code 3; /eat?mib=N takes memory; /health with
// 200, or whatever /health?be=STATUS has said.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// version is set by the linker.
var version = "1"

func main() {
	log.SetFlags(0)
	var (
		greeting = flag.String("greeting", cmp.Or(os.Getenv("GREETING"), "hello"), "what it says")
		listen   = flag.String("listen", cmp.Or(os.Getenv("LISTEN"), ":8080"), "where it listens")
		exit     = flag.String("exit", os.Getenv("EXIT"), "exit at once with this code")
		eatMiB   = flag.String("eat", os.Getenv("EAT"), "take this many MiB of memory")
		lines    = flag.String("lines", cmp.Or(os.Getenv("LINES"), "0"), "write so many numbered lines of 100 bytes first")
		deaf     = flag.Bool("deaf", os.Getenv("DEAF") != "", "ignore SIGTERM")
	)
	echo := flag.String("echo", os.Getenv("ECHO"), "say what is typed, and exit with this code at its end")
	flag.Parse()
	if *echo != "" {
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			log.Fatal(err)
		}
		*exit = *echo
	}
	for i := range number(*lines) {
		log.Printf("line %094d", i)
	}
	if *exit != "" {
		log.Printf("exiting with %s, as asked", *exit)
		os.Exit(number(*exit))
	}
	if *eatMiB != "" {
		eat(number(*eatMiB))
	}
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if *deaf {
		signal.Ignore(syscall.SIGTERM)
		signals = signals[:1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	serve(ctx, *listen, *greeting)
}

func serve(ctx context.Context, listen, greeting string) {
	hostname, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "%s from %s, version %s\n", greeting, hostname, cmp.Or(os.Getenv("VERSION"), version))
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		for _, item := range os.Environ() {
			_, _ = fmt.Fprintln(w, item)
		}
	})
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) {
		log.Print("crashing, as asked")
		os.Exit(3)
	})
	mux.HandleFunc("/eat", func(w http.ResponseWriter, r *http.Request) {
		eat(number(r.FormValue("mib")))
		_, _ = fmt.Fprintln(w, "done")
	})
	var health atomic.Int64
	health.Store(http.StatusOK)
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if be := r.FormValue("be"); be != "" {
			health.Store(int64(number(be)))
			return
		}
		w.WriteHeader(int(health.Load()))
		_, _ = fmt.Fprintln(w, "as asked")
	})
	server := &http.Server{Addr: listen, Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	log.Printf("listening on %s", listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	log.Print("bye")
}

// eaten holds what eat took, and mu guards it.
var (
	mu    sync.Mutex
	eaten [][]byte
)

// eat takes memory and writes to each page, so that it counts.
func eat(mib int) {
	for range mib {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		mu.Lock()
		eaten = append(eaten, block)
		mu.Unlock()
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatalf("%q is not a number", text)
	}
	return n
}
