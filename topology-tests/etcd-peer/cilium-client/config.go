package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var errNoConfig = errors.New("no cluster configuration in time")

// clusterConfig is what is read of a cluster's configuration.
type clusterConfig struct {
	ID           uint32 `json:"id"`
	Capabilities struct {
		SyncedCanaries           bool   `json:"syncedCanaries"`
		Cached                   bool   `json:"cached"`
		MaxConnectedClusters     uint32 `json:"maxConnectedClusters"`
		ServiceExportsEnabled    *bool  `json:"serviceExportsEnabled"`
		EndpointSlicesExportMode string `json:"endpointSlicesExportMode"`
	} `json:"capabilities"`
}

// followConfig waits for the configuration, starts what it asks for, and goes on watching its single key.
func (c *connection) followConfig(ctx context.Context) {
	r := c.resource("config", "cilium/cluster-config/"+c.opts.cluster)
	r.single = true
	for isFirst := true; ctx.Err() == nil; isFirst = false {
		response, err := c.awaitConfig(ctx, r.prefix)
		if err != nil {
			c.fail(err)
			return
		}
		kv := response.Kvs[0]
		config, err := parseConfig(kv.Value)
		if err != nil {
			c.fail(err)
			return
		}
		tell(step{
			Step: "config", Resource: r.name, Key: r.prefix, Value: text(kv.Value), Revision: kv.ModRevision,
		})
		r.replace(response.Kvs)
		if isFirst {
			c.startResources(ctx, config)
		}
		if err := watchFrom(ctx, c.client, r, response.Header.Revision+1, nil); err != nil {
			tell(step{Step: "relist", Resource: r.name, Reason: err.Error()})
		}
	}
}

// awaitConfig asks until the key is there.
func (c *connection) awaitConfig(ctx context.Context, key string) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.configTimeout, errNoConfig)
	defer cancel()
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		response, err := c.client.Get(ctx, key)
		if err == nil && len(response.Kvs) == 1 {
			return response, nil
		}
		if err != nil && ctx.Err() == nil {
			tell(step{Step: "failed", Resource: "config", Reason: err.Error()})
		}
		pause(ctx, retry)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

func parseConfig(value []byte) (clusterConfig, error) {
	var config clusterConfig
	if err := json.Unmarshal(value, &config); err != nil {
		return config, fmt.Errorf("the cluster configuration is not one: %w", err)
	}
	if config.ID == 0 {
		return config, errors.New("the cluster configuration has no id")
	}
	return config, nil
}
