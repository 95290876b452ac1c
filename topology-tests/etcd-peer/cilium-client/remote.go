package main

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const heartbeatPrefix = "cilium/.heartbeat"

var (
	errNoConnection = errors.New("no list of the heartbeat in time")
	errNoHeartbeat  = errors.New("no heartbeat in time")
)

// remote is the other cluster as it is known here: what was listed stays known when a connection ends.
type remote struct {
	opts options
	tls  *tls.Config
	mu   sync.Mutex
	held map[string]*resource
}

func newRemote(opts options) (*remote, error) {
	config, err := tlsConfig(opts)
	return &remote{opts: opts, tls: config, held: map[string]*resource{}}, err
}

// follow connects again whenever a connection is of no use any more.
func (r *remote) follow(ctx context.Context) {
	for retry := firstRetry; ctx.Err() == nil; retry = min(2*retry, lastRetry) {
		err := r.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		tell(step{Step: "reconnect", Reason: err.Error()})
		pause(ctx, retry)
	}
}

// connection is one from its first call to why it ended. Nothing of it runs when it returns.
func (r *remote) connection(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	identity := &identity{fail: cancel}
	client, err := connect(ctx, r.opts, r.tls, identity)
	if err != nil {
		return err
	}
	work := &connection{remote: r, client: client, identity: identity, fail: cancel}
	defer func() {
		cancel(nil)
		client.Close()
		work.tasks.Wait()
	}()
	work.start(ctx)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (r *remote) resource(name, prefix string) *resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[name] == nil {
		r.held[name] = newResource(name, prefix)
	}
	return r.held[name]
}

// connection is the tasks of one: first the heartbeat's, which by its listing starts the others.
type connection struct {
	*remote
	client   *clientv3.Client
	identity *identity
	fail     func(error)
	tasks    sync.WaitGroup
}

func (c *connection) start(ctx context.Context) {
	unconnected := time.AfterFunc(c.opts.connectTimeout, func() { c.fail(errNoConnection) })
	silence := time.AfterFunc(c.opts.heartbeatGap, func() { c.fail(errNoHeartbeat) })
	silence.Stop()
	connected := sync.OnceFunc(func() {
		unconnected.Stop()
		silence.Reset(c.opts.heartbeatGap)
		tell(step{Step: "connected", ClusterID: c.identity.id()})
		c.tasks.Go(func() { c.followConfig(ctx) })
	})
	// The arrival of a heartbeat counts, not what it says.
	beat := func(string) {
		silence.Reset(c.opts.heartbeatGap)
		tell(step{Step: "heartbeat"})
	}
	c.tasks.Go(func() {
		defer unconnected.Stop()
		defer silence.Stop()
		followResource(ctx, c.client, c.resource("heartbeat", heartbeatPrefix), hooks{listed: connected, put: beat})
	})
}
