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
//	FETCH     get this URL, say what it answers, and exit
//
// GET / answers with greeting, host name and version; /env with its
// environment; /crash exits with code 3; /eat?mib=N takes memory; /health with
// 200, or whatever /health?be=STATUS has said; /slow?ms=N after so long; /bytes?mib=N
// with so much; /client with the address that the call came from; /burn?ms=N after it has used the processor
// for so long; /metrics with web_queue_length, which /queue?length=N sets, and web_requests_total. A datagram to the same port is answered
// with the host name.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
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
	fetched := flag.String("fetch", os.Getenv("FETCH"), "get this URL, say what it answers, and exit")
	appended := flag.String("append", "", "add the greeting to this file as a line, and exit once it is on the disk")
	shown := flag.String("show", "", "show this file, and exit")
	flag.Parse()
	if *appended != "" {
		keep(*appended, *greeting)
		return
	}
	if *shown != "" {
		text, err := os.ReadFile(*shown)
		if err != nil {
			log.Fatal(err)
		}
		os.Stdout.Write(text) //nolint:errcheck // who asked has gone
		return
	}
	if *fetched != "" {
		fetch(*fetched)
		return
	}
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
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(number(r.FormValue("ms"))) * time.Millisecond)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<20)
		for range number(r.FormValue("mib")) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/client", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, r.RemoteAddr)
	})
	mux.HandleFunc("/burn", func(_ http.ResponseWriter, r *http.Request) {
		burn(time.Duration(number(r.FormValue("ms"))) * time.Millisecond)
	})
	var queue, requests atomic.Int64
	mux.HandleFunc("/queue", func(_ http.ResponseWriter, r *http.Request) { queue.Store(int64(number(r.FormValue("length")))) })
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "# TYPE web_queue_length gauge\nweb_queue_length %d\n# TYPE web_requests_total counter\nweb_requests_total %d\n", queue.Load(), requests.Load())
	})
	datagrams, err := net.ListenPacket("udp", listen)
	if err != nil {
		log.Fatal(err)
	}
	go answer(datagrams, hostname)
	server := &http.Server{Addr: listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		mux.ServeHTTP(w, r)
	})}
	// What has begun is answered before the program ends.
	answered := make(chan struct{})
	context.AfterFunc(ctx, func() {
		_ = server.Shutdown(context.WithoutCancel(ctx))
		close(answered)
	})
	log.Printf("listening on %s", listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-answered
	log.Print("bye")
}

// answer answers each datagram.
func answer(datagrams net.PacketConn, hostname string) {
	buffer := make([]byte, 1500)
	for {
		_, from, err := datagrams.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		_, _ = datagrams.WriteTo([]byte(hostname), from)
	}
}

// keep adds a line to a file.
func keep(path, line string) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = file.WriteString(line + "\n")
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// fetch gets a URL.
func fetch(url string) {
	response, err := (&http.Client{Timeout: 20 * time.Second}).Get(url) //nolint:noctx // it is all that the program does
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatal(response.Status)
	}
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

// burn uses the processor for so long.
func burn(long time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		const thread = 1 // RUSAGE_THREAD
		var usage syscall.Rusage
		if err := syscall.Getrusage(thread, &usage); err != nil {
			log.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	for end := used() + long; used() < end; {
		continue
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatalf("%q is not a number", text)
	}
	return n
}
