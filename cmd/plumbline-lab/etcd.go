package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcd listens on a socket in the lab's directory, which only its owner may enter:
// no port to collide on, and no way around the API server for others.
var etcdURL = url.URL{Scheme: "unix", Host: "etcd.sock"}

// startEtcd runs etcd until the returned stop is called.
func startEtcd(ctx context.Context) (stop func(), err error) {
	cfg := embed.NewConfig()
	cfg.Dir = "etcd"
	cfg.ListenClientUrls = []url.URL{etcdURL}
	// There are no peers. The addresses announced to them, which must not be
	// sockets, stay at their defaults and are never dialled.
	cfg.ListenPeerUrls = nil
	cfg.LogOutputs = []string{logName}
	cfg.LogLevel = "warn"
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration // 0 logs every request
	// A single member has nobody to wait for, and a lab that loses its machine has
	// lost nothing: what a killed process wrote is still in the page cache.
	cfg.UnsafeNoFsync = true
	cfg.TickMs = 50
	cfg.ElectionMs = 250

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return server.Close, nil
	case err = <-server.Err():
	case <-server.Server.StopNotify():
		err = errors.New("stopped early")
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, fmt.Errorf("start etcd: %w", err)
}
