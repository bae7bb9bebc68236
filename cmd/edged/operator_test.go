package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/admin"
)

func TestGivingUpIsShownFirst(t *testing.T) {
	t.Parallel()
	losses := admin.Losses{
		Partitions: []admin.Loss{
			{Partition: 3, Copies: []admin.LossCopy{{Node: "n2", Reached: true, Trust: "new"}, {Node: "n3", Known: 17}, {Node: "n5", Reached: true, Trust: "suspect", Damaged: true}}},
			{Partition: 5, Refused: "n4 is there, and has not reported its copy yet"},
		},
		Accepted: []admin.AcceptedLoss{{Partition: 9, Node: "n1", TimeMS: 1_700_000_000_000}},
	}
	forgetting := admin.Forgetting{Name: "n3", ID: "00aa", Owned: 7, Alone: 2}
	server := fakeNode(t, map[string]any{
		"GET /v1/accept-loss":               losses,
		"GET /v1/accept-loss?partition=3":   admin.Losses{Partitions: losses.Partitions[:1]},
		"GET /v1/accept-loss?partition=4":   admin.Losses{Partitions: []admin.Loss{{Partition: 4, Refused: "it serves"}}},
		"POST /v1/accept-loss?partition=3":  admin.Losses{Partitions: losses.Partitions[:1]},
		"POST /v1/accept-loss?all-new=true": losses,
		"GET /v1/nodes/forget?name=n3":      forgetting,
		"POST /v1/nodes/forget?name=n3":     forgetting,
		"POST /v1/accept-loss?partition=4":  admin.Problem{Title: "nothing to accept", Status: 409, Detail: "it serves"},
	})
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"accept-loss", "--partition", "3"}, 1, "n2 new, n3 out of reach (was known to have seen 17 writes), n5 suspect, damaged: what it holds stays with it"},
		{[]string{"accept-loss", "--all-new"}, 1, "refused: n4 is there"},
		{[]string{"accept-loss", "--partition", "3", "--yes"}, 0, "GIVEN UP"},
		{[]string{"accept-loss", "--all-new", "--yes"}, 0, "Accepted before: partition 9"},
		{[]string{"accept-loss", "--partition", "4", "--yes"}, 5, ""},
		{[]string{"accept-loss", "--partition", "4"}, 5, ""},
		{[]string{"accept-loss"}, 2, ""},
		{[]string{"accept-loss", "--partition", "3", "--all-new"}, 2, ""},
		{[]string{"accept-loss", "--partition", "-1"}, 2, ""},
		{[]string{"forget", "n3"}, 1, "7 owned, 2 served by no other owner"},
		{[]string{"forget", "n3", "--yes"}, 0, "GIVEN UP"},
		{[]string{"forget"}, 2, ""},
	} {
		code, out, _ := at(t, nil, append(c.args, "--admin", server.URL)...)
		require.Equal(t, c.code, code, "%v", c.args)
		require.Contains(t, out, c.out, "%v", c.args)
	}
}

func TestSyncIsHeldBackByCommand(t *testing.T) {
	t.Parallel()
	server := fakeNode(t, map[string]any{
		"GET /v1/sync":                 admin.SyncLimits{Guard: 1.5},
		"POST /v1/sync?rate=20MiB":     admin.SyncLimits{RateBytes: 20 << 20, Guard: 1.5},
		"POST /v1/sync?guard=0&rate=0": admin.SyncLimits{},
		"POST /v1/sync?guard=much":     admin.Problem{Title: "invalid setting", Status: 400, Detail: "want a factor"},
	})
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{nil, 0, "1.5 times"},
		{[]string{"--rate", "20MiB"}, 0, "20MiB a second"},
		{[]string{"--rate", "0", "--guard", "0"}, 0, "off"},
		{[]string{"--guard", "much"}, 1, ""},
		{[]string{"--rate", ""}, 2, ""},
		{[]string{"fast"}, 2, ""},
	} {
		code, out, _ := at(t, nil, append(append([]string{"sync"}, c.args...), "--admin", server.URL)...)
		require.Equal(t, c.code, code, "%v", c.args)
		require.Contains(t, out, c.out, "%v", c.args)
	}
}
