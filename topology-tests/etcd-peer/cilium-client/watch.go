package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Before a watch whose channel was closed is made again.
	rewatchPause = 50 * time.Millisecond
	firstRetry   = 50 * time.Millisecond
	lastRetry    = 10 * time.Second
)

// hooks are what else happens as a resource is followed; each may be nil.
type hooks struct {
	listed func()
	// With every key that is there or comes, in a listing and in events.
	put func(key string)
}

// followResource lists and watches until the context ends. A watch that reports an error is listed anew, compacted or not;
// one whose channel is closed is made again where it was. All watches have the same metadata, so they share a stream.
func followResource(ctx context.Context, client *clientv3.Client, r *resource, h hooks) {
	for retry := firstRetry; ctx.Err() == nil; retry = min(2*retry, lastRetry) {
		found, err := list(ctx, client, r.prefix)
		if err != nil {
			if ctx.Err() == nil {
				tell(step{Step: "failed", Resource: r.name, Reason: err.Error()})
			}
			pause(ctx, retry)
			continue
		}
		retry = firstRetry
		r.replace(found.kvs)
		tell(step{
			Step: "listed", Resource: r.name, Keys: len(found.kvs), Pages: found.pages, Revision: found.revision,
		})
		if h.listed != nil {
			h.listed()
		}
		for _, kv := range found.kvs {
			if h.put != nil {
				h.put(string(kv.Key))
			}
		}
		if err := watchFrom(ctx, client, r, found.revision+1, h.put); err != nil {
			tell(step{Step: "relist", Resource: r.name, Reason: err.Error()})
		}
	}
}

// watchFrom returns the error of a watch, or nil when the context has ended.
func watchFrom(ctx context.Context, client *clientv3.Client, r *resource, next int64, put func(string)) error {
	for ctx.Err() == nil {
		for response := range r.watch(ctx, client, next) {
			if err := response.Err(); err != nil {
				return err
			}
			checkResponse(r, next, response)
			next = response.Header.Revision + 1
			for _, event := range response.Events {
				if event.Type == clientv3.EventTypeDelete {
					r.remove(event.Kv)
					continue
				}
				r.put(event.Kv)
				if put != nil {
					put(string(event.Kv.Key))
				}
			}
			if response.IsProgressNotify() {
				tell(step{Step: "progress", Resource: r.name, Revision: response.Header.Revision})
			}
		}
		if ctx.Err() == nil {
			tell(step{Step: "rewatch", Resource: r.name, Reason: "the watch's channel was closed", Revision: next})
			pause(ctx, rewatchPause)
		}
	}
	return nil
}

// checkResponse holds a watch to what a resumed one relies on: nothing twice, and nothing after a revision that was shown.
func checkResponse(r *resource, next int64, response clientv3.WatchResponse) {
	last := next - 1
	for _, event := range response.Events {
		if event.Kv.ModRevision < last || event.Kv.ModRevision < next {
			violated("%s: an event of revision %d after revision %d", r.name, event.Kv.ModRevision, last)
		}
		last = event.Kv.ModRevision
	}
	if response.Header.Revision < last {
		violated("%s: header revision %d after revision %d", r.name, response.Header.Revision, last)
	}
}

func pause(ctx context.Context, length time.Duration) {
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
}
