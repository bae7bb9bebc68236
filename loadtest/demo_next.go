package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// eachKey sends a command for each key through one connection, all at once,
// and hands each reply on. What is refused or left unanswered is sent again.
func eachKey(ctx context.Context, at door, keys []string, command func(string) []string, got func(string, reply)) error {
	giveUp := time.Now().Add(retryLimit)
	for len(keys) > 0 {
		refused, err := tryKeys(ctx, at, keys, command, got)
		if err == nil {
			return nil
		}
		if time.Now().After(giveUp) {
			return fmt.Errorf("ask %s: %w", at.name, err)
		}
		if err := pause(ctx, retryWait); err != nil {
			return err
		}
		keys = refused
	}
	return nil
}

func tryKeys(ctx context.Context, at door, keys []string, command func(string) []string, got func(string, reply)) (refused []string, why error) {
	conn, err := dialRESP(ctx, at.resp)
	if err != nil {
		return keys, err
	}
	defer conn.close()
	for _, key := range keys {
		var args [][]byte
		for _, arg := range command(key) {
			args = append(args, []byte(arg))
		}
		conn.send(args...)
	}
	if err := conn.flush(); err != nil {
		return keys, err
	}
	for i, key := range keys {
		r, err := conn.receive()
		switch {
		case err == nil && got != nil:
			got(key, r)
		case err == nil:
		case replied(err):
			refused, why = append(refused, key), err
		default:
			return append(refused, keys[i:]...), err
		}
	}
	return refused, why
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// next shows what to try on the cluster, which goes on running.
func (d *demo) next() {
	first, third := d.cluster.Node(0), d.cluster.Node(2)
	edged := d.cluster.Binary()
	s := d.show
	s.print("%s", s.paint.bold("The cluster goes on running. Try, in another terminal:"))
	_, port, _ := strings.Cut(third.Ports().RESP, ":")
	lines := [][2]string{
		{"redis-cli -p " + port + " get " + demoKey(demoProbe), "any Redis client, any node"},
		{"curl -i http://" + third.Ports().HTTP + "/v1/kv/" + demoPair, "the merged view, its token, its policy"},
		{"curl 'http://" + third.Ports().HTTP + "/v1/kv/" + demoPair + "?siblings=1'", "what it was merged from"},
		{edged + " status --admin http://" + first.Ports().Admin, "nodes, partitions, policies"},
		{"http://" + first.Ports().Admin + "/console/", "the same in a browser"},
		{edged + " rejoin status --admin http://" + third.Ports().Admin, "how " + third.Name() + " came back"},
		{edged + " policy rollback " + demoPrefix + " --admin http://" + first.Ports().Admin, "the policy taken back: nothing was overwritten"},
		{fmt.Sprintf("kill -9 %d", first.PID()), "any one node may go: the others answer for every key"},
	}
	width := 0
	for _, line := range lines {
		width = max(width, len(line[0]))
	}
	for _, line := range lines {
		s.print("  %s  %s", s.paint.cyan(fmt.Sprintf("%-*s", width, line[0])), s.paint.dim(line[1]))
	}
	s.print("\n%s", s.paint.dim("Logs are in "+d.cluster.Dir()+". Ctrl-C ends it all."))
}
