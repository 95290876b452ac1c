package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

var errNoHeader = errors.New("an answer without a header, or without a cluster id")

// identity is the cluster id of one connection: the first that is answered, and then no other.
type identity struct {
	mu    sync.Mutex
	known uint64
	// Called with why the connection is of no use any more.
	fail func(error)
}

type answer interface {
	GetHeader() *etcdserverpb.ResponseHeader
}

// check looks at every answer, of calls and of streams.
func (i *identity) check(message any) error {
	response, ok := message.(answer)
	if !ok || response.GetHeader().GetClusterId() == 0 {
		i.fail(errNoHeader)
		return errNoHeader
	}
	id := response.GetHeader().ClusterId
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == 0 {
		i.known = id
	}
	if i.known != id {
		err := fmt.Errorf("the cluster id was %d and is %d", i.known, id)
		i.fail(err)
		return err
	}
	return nil
}

func (i *identity) id() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known
}

func (i *identity) unary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if err := invoke(ctx, method, request, reply, conn, opts...); err != nil {
		return err
	}
	return i.check(reply)
}

func (i *identity) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	inner, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, err
	}
	tell(step{Step: "stream"})
	return &checkedStream{inner, i}, nil
}

type checkedStream struct {
	grpc.ClientStream
	identity *identity
}

func (s *checkedStream) RecvMsg(message any) error {
	if err := s.ClientStream.RecvMsg(message); err != nil {
		return err
	}
	return s.identity.check(message)
}
