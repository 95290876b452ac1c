package main

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"sync/atomic"
)

// exported is what a cluster of this configuration exports, by what its canaries name: a prefix without its cluster.
func (c *connection) exported(config clusterConfig) map[string]*resource {
	names := []string{"nodes", "identities", "ip", "services"}
	if config.Capabilities.ServiceExportsEnabled != nil {
		names = append(names, "serviceexports")
	}
	if config.Capabilities.EndpointSlicesExportMode != "" {
		names = append(names, "endpointslices")
	}
	layout := "cilium/state/"
	within := map[string]string{"identities": "id", "ip": "default"}
	if config.Capabilities.Cached {
		layout = "cilium/cache/"
		within = map[string]string{"identities": c.opts.cluster + "/id"}
	}
	resources := map[string]*resource{}
	for _, name := range names {
		canary := layout + name + "/v1"
		resources[canary] = c.resource(name, canary+"/"+cmp.Or(within[name], c.opts.cluster)+"/")
	}
	return resources
}

// startResources follows what the cluster exports: each resource from its canary on, or all at once where there are none.
func (c *connection) startResources(ctx context.Context, config clusterConfig) {
	for _, prefix := range c.opts.also {
		c.tasks.Go(func() { followResource(ctx, c.client, c.resource(prefix, prefix), hooks{}) })
	}
	waiting := c.exported(config)
	var unlisted atomic.Int64
	unlisted.Store(int64(len(waiting)))
	start := func(canary string) {
		r := waiting[canary]
		if r == nil {
			// It runs, or is not asked for by this client.
			return
		}
		delete(waiting, canary)
		listed := sync.OnceFunc(func() {
			if unlisted.Add(-1) == 0 {
				tell(step{Step: "synced"})
			}
		})
		c.tasks.Go(func() { followResource(ctx, c.client, r, hooks{listed: listed}) })
	}
	if !config.Capabilities.SyncedCanaries {
		for canary := range waiting {
			start(canary)
		}
		return
	}
	canaries := "cilium/synced/" + c.opts.cluster + "/"
	seen := func(key string) {
		canary := strings.TrimPrefix(key, canaries)
		tell(step{Step: "canary", Key: canary})
		start(canary)
	}
	c.tasks.Go(func() { followResource(ctx, c.client, c.resource("synced", canaries), hooks{put: seen}) })
}
