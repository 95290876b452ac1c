package main

import (
	"bytes"
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const pageSize = 256

// listing is a prefix as it was at one revision.
type listing struct {
	kvs      []*mvccpb.KeyValue
	pages    int
	revision int64
}

// list reads a prefix in pages of the revision of the first. The library drops the wish for an order that is the keys'
// own, so the order is the server's to keep, and a client that goes on at the last key loses what is out of order.
func list(ctx context.Context, client *clientv3.Client, prefix string) (listing, error) {
	var all listing
	end := clientv3.GetPrefixRangeEnd(prefix)
	start := prefix
	for {
		page, err := client.Get(ctx, start, clientv3.WithRange(end), clientv3.WithLimit(pageSize),
			clientv3.WithRev(all.revision), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		if err != nil {
			return listing{}, err
		}
		if all.revision == 0 {
			all.revision = page.Header.Revision
		}
		checkPage(start, page)
		all.kvs, all.pages = append(all.kvs, page.Kvs...), all.pages+1
		if !page.More {
			return all, nil
		}
		start = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func checkPage(start string, page *clientv3.GetResponse) {
	last := []byte(nil)
	for _, kv := range page.Kvs {
		if string(kv.Key) < start || last != nil && bytes.Compare(kv.Key, last) <= 0 {
			violated("%q comes after %q, in a page from %q on", kv.Key, last, start)
		}
		last = kv.Key
	}
	switch held := int64(len(page.Kvs)); {
	case held > pageSize:
		violated("%d keys in a page of %d", held, pageSize)
	case page.More && held < pageSize:
		violated("a page of %d keys from %q on says that there are more", held, start)
	case page.More != (page.Count > held) || page.Count < held:
		violated("a page of %d keys from %q on says count %d and more %t", held, start, page.Count, page.More)
	}
}
