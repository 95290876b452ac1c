// Stands in for a Cilium that joins the mesh: it asks a cluster's etcd API for what a remote-cluster client of Cilium's
// asks, in the same order and with the same library, and tells each step as a JSON object on a line of its own. It ends
// with its input, or by SIGTERM. What a client of Cilium's would silently lose data by ends it with 2.
//
// What it replays is in cilium-wire-contract.md, 2.8 and 3.1, and in cilium-observed.md, 2.3 and 3.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are told by flags; the defaults of deadlines are Cilium's.
type options struct {
	cluster        string
	addresses      []string
	also           []string
	ca, cert, key  string
	connectTimeout time.Duration
	configTimeout  time.Duration
	heartbeatGap   time.Duration
	keepAlive      time.Duration
	keepAliveEnd   time.Duration
}

func main() {
	opts, err := parse()
	if err != nil {
		refuse(err)
	}
	remote, err := newRemote(opts)
	if err != nil {
		refuse(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		// Whoever started this program ends it by closing its input.
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	remote.follow(ctx)
}

// refuse ends the program for flags that make no client.
func refuse(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(64)
}

func parse() (options, error) {
	var opts options
	var addresses, also string
	flag.StringVar(&opts.cluster, "cluster", "", "the cluster to join")
	flag.StringVar(&addresses, "addresses", "", "host:port, by commas: what its name stands for, in the order of trying")
	flag.StringVar(&also, "also", "", "prefixes, by commas, that are listed and watched without a canary")
	flag.StringVar(&opts.ca, "ca", "", "PEM of the server's CA")
	flag.StringVar(&opts.cert, "cert", "", "PEM of the client's certificate")
	flag.StringVar(&opts.key, "key", "", "PEM of its key")
	flag.DurationVar(&opts.connectTimeout, "connect-timeout", 15*time.Minute, "for the first list of the heartbeat")
	flag.DurationVar(&opts.configTimeout, "config-timeout", 3*time.Minute, "for the cluster's configuration")
	flag.DurationVar(&opts.heartbeatGap, "heartbeat-timeout", 2*time.Minute, "between heartbeats")
	flag.DurationVar(&opts.keepAlive, "keepalive", 15*time.Second, "between pings of an idle connection")
	flag.DurationVar(&opts.keepAliveEnd, "keepalive-timeout", 25*time.Second, "for the answer to a ping")
	flag.Parse()
	opts.addresses, opts.also = words(addresses), words(also)
	if opts.cluster == "" || len(opts.addresses) == 0 {
		return opts, fmt.Errorf("-cluster and -addresses are needed")
	}
	return opts, nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' })
}
