package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// redisBacklog is ample: what any run writes while the replica is away fits,
	// so that a partial resync is always possible. It is taken as it fills.
	redisBacklog = "1gb"
	// replicaFile is what the replica keeps its data in.
	replicaFile = "dump.rdb"
)

// redisPair is a Redis master and its replica, which goes and comes back as the
// returning node does. The replica saves its data before it is killed: only by
// what stands in that file can it ask for a partial resync, and it has then
// nothing to load but its data.
type redisPair struct {
	master, replica *redisServer
	ledger          *ledger
}

// resync is one return of the replica.
type resync struct {
	ms    float64 // from exec() until it shows the last change
	first float64 // from exec() until it answers a GET at all, out of what it had saved
	bytes uint64  // that it read from the master until then
	wrong int     // of the changes, how many it does not show as written
}

// startRedisPair starts both, empty, in directories below dir.
func startRedisPair(ctx context.Context, program, dir string, l *ledger) (p *redisPair, err error) {
	p = &redisPair{ledger: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.master, err = newRedisServer(program, filepath.Join(dir, "redis-master"), "--repl-backlog-size", redisBacklog,
		"--repl-diskless-sync-delay", "0", "--client-output-buffer-limit", "replica 0 0 0"); err != nil {
		return p, err
	}
	if p.replica, err = newRedisServer(program, filepath.Join(dir, "redis-replica"), "--dbfilename", replicaFile,
		"--replicaof", "127.0.0.1 "+portOf(p.master.addr)); err != nil {
		return p, err
	}
	for _, s := range []*redisServer{p.master, p.replica} {
		if _, err := s.start(); err != nil {
			return p, err
		}
		if err := s.waitAnswer(ctx); err != nil {
			return p, err
		}
	}
	return p, p.waitLevel(ctx)
}

// close ends both servers.
func (p *redisPair) close() error {
	var errs []error
	for _, s := range []*redisServer{p.replica, p.master} {
		if s != nil {
			errs = append(errs, s.kill())
		}
	}
	return errors.Join(errs...)
}

// version is what Redis calls itself.
func (p *redisPair) version(ctx context.Context) (string, error) {
	fields, err := p.master.info(ctx, "server")
	return fields["redis_version"], err
}

// write applies writes to the master, in their order.
func (p *redisPair) write(ctx context.Context, writes []write) error {
	return p.pipeline(ctx, p.master, writes, p.send, func(write, reply) {})
}

func (p *redisPair) send(conn *respConn, w write) {
	key := []byte(p.ledger.key(w.key))
	if w.remove {
		conn.send([]byte("DEL"), key)
		return
	}
	conn.send([]byte("SET"), key, p.ledger.values.of(w.number))
}

// pipeline sends a command for each write and tells the replies.
func (p *redisPair) pipeline(ctx context.Context, s *redisServer, writes []write, send func(*respConn, write), told func(write, reply)) error {
	conn, err := dialRESP(ctx, s.addr)
	if err != nil {
		return err
	}
	defer conn.close()
	for len(writes) > 0 {
		batch := writes[:min(pipelineDepth, len(writes))]
		writes = writes[len(batch):]
		for _, w := range batch {
			send(conn, w)
		}
		if err := conn.flush(); err != nil {
			return fmt.Errorf("write to redis at %s: %w", s.addr, err)
		}
		for _, w := range batch {
			answer, err := conn.receive()
			if err != nil {
				return fmt.Errorf("write to redis at %s: %w", s.addr, err)
			}
			told(w, answer)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// waitLevel waits until the replica has all that the master has.
func (p *redisPair) waitLevel(ctx context.Context) error {
	_, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		mine, err := p.replica.info(ctx, "replication")
		if err != nil {
			return false, nil //nolint:nilerr // it is not there yet
		}
		theirs, err := p.master.info(ctx, "replication")
		return mine["master_link_status"] == "up" && mine["slave_repl_offset"] == theirs["master_repl_offset"], err
	})
	if err != nil {
		return fmt.Errorf("wait for redis' replica: %w", err)
	}
	return nil
}

// save has the replica write its data to its file, and returns when it has.
func (p *redisPair) save(ctx context.Context) error {
	if _, err := p.replica.do(ctx, "BGSAVE"); err != nil {
		return fmt.Errorf("save redis' replica: %w", err)
	}
	_, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		fields, err := p.replica.info(ctx, "persistence")
		switch {
		case err != nil:
			return false, nil //nolint:nilerr // it may be slow to answer while it forks
		case fields["rdb_bgsave_in_progress"] != "0":
			return false, nil
		case fields["rdb_last_bgsave_status"] != "ok":
			return false, fmt.Errorf("save redis' replica: status %q", fields["rdb_last_bgsave_status"])
		}
		return true, nil
	})
	return err
}

// partial kills the replica, applies the writes to the master, and measures the
// replica's return on what it had saved.
func (p *redisPair) partial(ctx context.Context, writes []write) (resync, error) {
	if err := errors.Join(p.waitLevel(ctx), p.save(ctx), p.replica.kill()); err != nil {
		return resync{}, err
	}
	if err := p.write(ctx, writes); err != nil {
		return resync{}, err
	}
	before, err := p.master.number(ctx, "stats", "sync_partial_ok")
	if err != nil {
		return resync{}, err
	}
	out, err := p.back(ctx, writes)
	if err != nil {
		return out, err
	}
	after, err := p.master.number(ctx, "stats", "sync_partial_ok")
	if err == nil && after == before {
		err = errors.New("redis' replica took a full resync where a partial one was possible")
	}
	return out, err
}

// full kills the replica, removes its data, and measures its return. The writes
// are those that the master took last.
func (p *redisPair) full(ctx context.Context, writes []write) (resync, error) {
	if err := errors.Join(p.replica.kill(), os.Remove(filepath.Join(p.replica.dir, replicaFile))); err != nil {
		return resync{}, err
	}
	return p.back(ctx, writes)
}

// back starts the replica and waits until it shows the last of the writes, which
// must be no removal: it applies them in their order. Then all are looked at.
func (p *redisPair) back(ctx context.Context, writes []write) (resync, error) {
	last := writes[len(writes)-1]
	key, want := p.ledger.key(last.key), p.ledger.values.of(last.number)
	from, err := p.replica.start()
	if err != nil {
		return resync{}, err
	}
	var conn *respConn
	defer func() {
		if conn != nil {
			conn.close()
		}
	}()
	var first time.Time
	at, err := poll(ctx, watchEvery, func(ctx context.Context) (bool, error) {
		if conn == nil {
			var err error
			if conn, err = dialRESP(ctx, p.replica.addr); err != nil {
				return false, nil //nolint:nilerr // it is not there yet
			}
		}
		answer, err := conn.do("GET", key)
		if err != nil && !replied(err) { // while it loads, it may be slow to answer
			conn.close()
			conn = nil
		}
		if err == nil && first.IsZero() {
			first = time.Now()
		}
		return err == nil && bytes.Equal(answer.text, want), nil
	})
	if err != nil {
		return resync{}, fmt.Errorf("wait for redis' replica: %w", err)
	}
	out := resync{ms: since(from, at), first: since(from, first)}
	if out.bytes, err = p.replica.number(ctx, "stats", "total_net_repl_input_bytes"); err != nil {
		return out, err
	}
	out.wrong, err = p.wrong(ctx, writes)
	return out, err
}

// wrong counts the writes that the replica does not show.
func (p *redisPair) wrong(ctx context.Context, writes []write) (wrong int, err error) {
	last := map[int]write{} // of several writes to a key
	for _, w := range writes {
		last[w.key] = w
	}
	err = p.pipeline(ctx, p.replica, writes, func(conn *respConn, w write) {
		conn.send([]byte("GET"), []byte(p.ledger.key(w.key)))
	}, func(w write, answer reply) {
		w = last[w.key]
		if w.remove != answer.null || !w.remove && !bytes.Equal(answer.text, p.ledger.values.of(w.number)) {
			wrong++
		}
	})
	return wrong, err
}

// portOf is the port of an address that has one.
func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
