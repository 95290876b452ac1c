// Exercises etcd's own concurrency package (Mutex, Election, STM, sessions that end) against a server that speaks etcd's
// API, and says for each what held. Any rule that does not hold ends the program with 1.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func main() {
	endpoint := flag.String("endpoint", "", "https://host:port")
	ca := flag.String("ca", "", "PEM of the server's CA")
	cert := flag.String("cert", "", "PEM of the client's certificate")
	key := flag.String("key", "", "PEM of its key")
	flag.Parse()
	if err := run(*endpoint, *ca, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(endpoint, ca, cert, key string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 10 * time.Second,
		TLS:         &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	for _, rule := range []struct {
		name  string
		holds func(context.Context, *clientv3.Client) (string, error)
	}{
		{"mutex", mutex}, {"trylock", tryLock}, {"election", election}, {"stm", stm}, {"session", session},
	} {
		detail, err := rule.holds(ctx, client)
		if err != nil {
			return fmt.Errorf("%s: %w", rule.name, err)
		}
		fmt.Printf("%s ok: %s\n", rule.name, detail)
	}
	return nil
}

// Nobody else is inside while one is: a counter that is read and written apart loses nothing.
func mutex(ctx context.Context, client *clientv3.Client) (string, error) {
	const workers, rounds = 4, 10
	if _, err := client.Put(ctx, "go/counter", "0"); err != nil {
		return "", err
	}
	err := together(workers, func(int) error {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
		if err != nil {
			return err
		}
		defer session.Close()
		lock := concurrency.NewMutex(session, "go/mutex")
		for range rounds {
			if err := lock.Lock(ctx); err != nil {
				return err
			}
			got, err := client.Get(ctx, "go/counter")
			if err != nil {
				return err
			}
			count, err := strconv.Atoi(string(got.Kvs[0].Value))
			if err != nil {
				return err
			}
			// With the lock's own proof, as its documentation asks for.
			done, err := client.Txn(ctx).If(lock.IsOwner()).
				Then(clientv3.OpPut("go/counter", strconv.Itoa(count+1))).Commit()
			if err != nil {
				return err
			}
			if !done.Succeeded {
				return errors.New("who holds the lock is not its owner")
			}
			if err := lock.Unlock(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	got, err := client.Get(ctx, "go/counter")
	if err != nil {
		return "", err
	}
	if count := string(got.Kvs[0].Value); count != strconv.Itoa(workers*rounds) {
		return "", fmt.Errorf("%s of %d increments", count, workers*rounds)
	}
	return fmt.Sprintf("%d workers, %d increments, none lost", workers, workers*rounds), nil
}

func tryLock(ctx context.Context, client *clientv3.Client) (string, error) {
	first, err := concurrency.NewSession(client)
	if err != nil {
		return "", err
	}
	defer first.Close()
	second, err := concurrency.NewSession(client)
	if err != nil {
		return "", err
	}
	defer second.Close()
	held, other := concurrency.NewMutex(first, "go/try"), concurrency.NewMutex(second, "go/try")
	if err := held.TryLock(ctx); err != nil {
		return "", err
	}
	if err := other.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return "", fmt.Errorf("a held lock was had twice: %v", err)
	}
	if err := held.Unlock(ctx); err != nil {
		return "", err
	}
	if err := other.TryLock(ctx); err != nil {
		return "", err
	}
	return "a held lock is refused at once, a free one is had", nil
}

// Each candidate leads once, and an observer hears all of them in the order in which they led.
func election(ctx context.Context, client *clientv3.Client) (string, error) {
	const candidates = 3
	watching, stop := context.WithCancel(ctx)
	defer stop()
	observing, err := concurrency.NewSession(client)
	if err != nil {
		return "", err
	}
	defer observing.Close()
	observed := concurrency.NewElection(observing, "go/election").Observe(watching)
	var lock sync.Mutex
	var led []string
	// The next one leads only when the observer has heard of this one: it may skip values, but not the newest.
	heard := make(chan string, candidates)
	go func() {
		for answer := range observed {
			heard <- string(answer.Kvs[0].Value)
		}
	}()
	err = together(candidates, func(n int) error {
		session, err := concurrency.NewSession(client)
		if err != nil {
			return err
		}
		defer session.Close()
		candidate := concurrency.NewElection(session, "go/election")
		name := fmt.Sprintf("candidate-%d", n)
		if err := candidate.Campaign(ctx, name); err != nil {
			return err
		}
		lock.Lock()
		led = append(led, name)
		lock.Unlock()
		leader, err := candidate.Leader(ctx)
		if err != nil {
			return err
		}
		if now := string(leader.Kvs[0].Value); now != name {
			return fmt.Errorf("%s leads, but the election says %s", name, now)
		}
		select {
		case word := <-heard:
			if word != name {
				return fmt.Errorf("%s leads, but %s was observed", name, word)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		return candidate.Resign(ctx)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("led in turn: %v", led), nil
}

// Transfers between accounts in software transactions keep the sum.
func stm(ctx context.Context, client *clientv3.Client) (string, error) {
	const accounts, workers, transfers = 5, 4, 15
	account := func(n int) string { return fmt.Sprintf("go/account/%d", n%accounts) }
	for n := range accounts {
		if _, err := client.Put(ctx, account(n), "100"); err != nil {
			return "", err
		}
	}
	err := together(workers, func(worker int) error {
		for n := range transfers {
			from, to := account(worker+n), account(worker+2*n+1)
			if from == to {
				continue
			}
			_, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
				a, err := strconv.Atoi(s.Get(from))
				if err != nil {
					return err
				}
				b, err := strconv.Atoi(s.Get(to))
				if err != nil {
					return err
				}
				s.Put(from, strconv.Itoa(a-7))
				s.Put(to, strconv.Itoa(b+7))
				return nil
			}, concurrency.WithAbortContext(ctx))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	got, err := client.Get(ctx, "go/account/", clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	sum := 0
	for _, kv := range got.Kvs {
		value, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return "", err
		}
		sum += value
	}
	if sum != 100*accounts {
		return "", fmt.Errorf("the accounts hold %d instead of %d", sum, 100*accounts)
	}
	return fmt.Sprintf("%d workers, %d transfers, the sum is kept", workers, workers*transfers), nil
}

// A lock whose holder dies is had by the next one when the lease is over.
func session(ctx context.Context, client *clientv3.Client) (string, error) {
	dying, err := concurrency.NewSession(client, concurrency.WithTTL(2))
	if err != nil {
		return "", err
	}
	if err := concurrency.NewMutex(dying, "go/session").Lock(ctx); err != nil {
		return "", err
	}
	// No keepalive any more.
	dying.Orphan()
	next, err := concurrency.NewSession(client)
	if err != nil {
		return "", err
	}
	defer next.Close()
	started := time.Now()
	if err := concurrency.NewMutex(next, "go/session").Lock(ctx); err != nil {
		return "", err
	}
	if waited := time.Since(started); waited < time.Second {
		return "", fmt.Errorf("the lock was had after %s, while its holder's lease lived", waited)
	}
	return "the lock of a dead holder is had when its lease ends, not before", nil
}

func together(count int, work func(int) error) error {
	failures := make(chan error, count)
	for n := range count {
		go func() { failures <- work(n) }()
	}
	var first error
	for range count {
		if err := <-failures; err != nil && first == nil {
			first = err
		}
	}
	return first
}
