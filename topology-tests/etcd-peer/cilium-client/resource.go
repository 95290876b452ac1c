package main

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// resource is a prefix that is listed and watched, and what is known of it: that outlives connections.
type resource struct {
	name   string
	prefix string
	// The prefix is a whole key.
	single bool
	held   map[string]*mvccpb.KeyValue
}

func newResource(name, prefix string) *resource {
	return &resource{name: name, prefix: prefix, held: map[string]*mvccpb.KeyValue{}}
}

// watch follows the resource from a revision on.
func (r *resource) watch(ctx context.Context, client *clientv3.Client, from int64) clientv3.WatchChan {
	opts := []clientv3.OpOption{clientv3.WithRev(from)}
	if !r.single {
		opts = append(opts, clientv3.WithPrefix())
	}
	return client.Watch(clientv3.WithRequireLeader(ctx), r.prefix, opts...)
}

// replace tells how a listing differs from what was held: what has gone comes last, as with Cilium.
func (r *resource) replace(kvs []*mvccpb.KeyValue) {
	gone := r.held
	r.held = make(map[string]*mvccpb.KeyValue, len(kvs))
	for _, kv := range kvs {
		key := string(kv.Key)
		before, known := gone[key]
		delete(gone, key)
		r.held[key] = kv
		if !known || before.ModRevision != kv.ModRevision {
			r.tellPut(before, kv, true)
		}
	}
	for key := range gone {
		tell(step{Step: "event", Resource: r.name, Type: "delete", Key: key, Listed: true})
	}
}

func (r *resource) put(kv *mvccpb.KeyValue) {
	before := r.held[string(kv.Key)]
	r.held[string(kv.Key)] = kv
	r.tellPut(before, kv, false)
}

func (r *resource) remove(kv *mvccpb.KeyValue) {
	delete(r.held, string(kv.Key))
	tell(step{Step: "event", Resource: r.name, Type: "delete", Key: string(kv.Key), Revision: kv.ModRevision})
}

func (r *resource) tellPut(before, kv *mvccpb.KeyValue, listed bool) {
	kind := "modify"
	if kv.CreateRevision == kv.ModRevision {
		kind = "create"
	}
	tell(step{
		Step: "event", Resource: r.name, Type: kind, Key: string(kv.Key), Value: text(kv.Value), Listed: listed,
		Unchanged: before != nil && string(before.Value) == text(kv.Value),
		Revision:  kv.ModRevision, Version: kv.Version,
	})
}
