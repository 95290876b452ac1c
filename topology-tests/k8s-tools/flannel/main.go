// flanneld of flannel's own packages: subnets from the nodes' podCIDR, VXLAN or host-gw between nodes, nftables for
// masquerade. Its usual main also imports backends of clouds, of which one is not served by the module proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
)

// Rules are looked at this often (seconds), as flanneld does by default.
const resync = 5

type options struct {
	kubeconfig, netConfig, subnetFile, iface string
	masquerade                               bool
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig-file", "", "the cluster, and who asks")
	flag.StringVar(&o.netConfig, "net-config-path", "", "net-conf.json")
	flag.StringVar(&o.subnetFile, "subnet-file", "", "where the node's subnet and MTU are written, once all is set up")
	flag.StringVar(&o.iface, "iface", "", "the interface towards the other nodes")
	flag.BoolVar(&o.masquerade, "ip-masq", false, "what leaves the pods' network has the node's address")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		os.Exit(1)
	}
}

// The node's name comes by the environment (NODE_NAME), as flannel's subnet manager reads it there.
func run(ctx context.Context, o *options) error {
	subnets, err := kube.NewSubnetManager(ctx, "", o.kubeconfig, "flannel.alpha.coreos.com", o.netConfig, false)
	if err != nil {
		return fmt.Errorf("subnet manager: %w", err)
	}
	config, err := subnets.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("network config: %w", err)
	}
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return err
	}
	outside, err := ipmatch.LookupExtIface(o.iface, "", "", stack, ipmatch.PublicIPOpts{})
	if err != nil {
		return fmt.Errorf("interface %s: %w", o.iface, err)
	}
	kind, err := backend.NewManager(ctx, subnets, outside).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	network, err := kind.RegisterNetwork(ctx, &tasks, config)
	if err != nil {
		return fmt.Errorf("register the network: %w", err)
	}
	rules := &nftables.NFTablesManager{}
	if err := rules.Init(ctx); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	lease := network.Lease()
	if o.masquerade {
		// Nothing of an earlier run is passed on: the node's range never changes here.
		err := rules.SetupAndEnsureMasqRules(ctx, config.Network, ip.IP4Net{}, ip.IP4Net{},
			config.IPv6Network, ip.IP6Net{}, ip.IP6Net{}, lease, resync, false)
		if err != nil {
			return fmt.Errorf("masquerade: %w", err)
		}
	}
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, resync)
	// Last: a node whose file is there has its network.
	if err := subnets.HandleSubnetFile(o.subnetFile, config, o.masquerade, lease.Subnet, lease.IPv6Subnet, network.MTU()); err != nil {
		return fmt.Errorf("write %s: %w", o.subnetFile, err)
	}
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		network.Run(ctx)
	}()
	err = subnets.CompleteLease(ctx, lease, &tasks)
	tasks.Wait()
	return err
}
