package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// connect makes a client for <cluster>.mesh.cilium.io, a name that is resolved here and not by DNS, as by Cilium's
// static dialer. It dials when it is first used.
func connect(ctx context.Context, opts options, config *tls.Config, identity *identity) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            []string{fmt.Sprintf("https://%s.mesh.cilium.io:2379", opts.cluster)},
		DialKeepAliveTime:    opts.keepAlive,
		DialKeepAliveTimeout: opts.keepAliveEnd,
		TLS:                  config,
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(dialer(opts.addresses)),
			// These take the places of the library's own, as Cilium's do: nothing is retried behind its back.
			grpc.WithUnaryInterceptor(identity.unary),
			grpc.WithStreamInterceptor(identity.stream),
		},
	})
}

func tlsConfig(opts options) (*tls.Config, error) {
	pem, err := os.ReadFile(opts.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", opts.ca)
	}
	pair, err := tls.LoadX509KeyPair(opts.cert, opts.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}

// dialer tries one address after the other, as Go does with those of a name.
func dialer(addresses []string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		var failures []error
		for _, address := range addresses {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				tell(step{Step: "dialed", Address: address})
				return conn, nil
			}
			failures = append(failures, err)
		}
		return nil, errors.Join(failures...)
	}
}
