package admin

import (
	"context"
	"net/url"
	"strconv"
)

// Paths of what an operator decides and no node may decide by itself.
const (
	PathSync       = "/v1/sync"         // GET shows what holds syncs back, POST changes it
	PathAcceptLoss = "/v1/accept-loss"  // GET tells what would be given up, POST gives it up
	PathForget     = "/v1/nodes/forget" // GET tells what would be given up, POST gives it up
)

// Losses is what would be given up, or was, where every copy of a partition in
// reach is new.
type Losses struct {
	// Partitions do not serve at the answering node, which owns them; behind a POST,
	// those that it has given up.
	Partitions []Loss `json:"partitions"`
	// Accepted are the losses that were accepted before, anywhere in the cluster.
	Accepted []AcceptedLoss `json:"accepted,omitempty"`
}

// Loss is one partition that nothing serves, since whatever its copies held was
// lost or is out of reach.
type Loss struct {
	Partition uint32     `json:"partition"`
	Copies    []LossCopy `json:"copies"` // of the other owners, and of members that hold it
	// Refused says why the loss may not be accepted; empty where it may be.
	Refused string `json:"refused,omitempty"`
}

// LossCopy is one copy of such a partition.
type LossCopy struct {
	Node    string `json:"node"`
	Reached bool   `json:"reached"`         // it is connected and has reported its copy
	Trust   string `json:"trust,omitempty"` // as it reported: new, or that of a damaged copy
	// Damaged: records of it are lost. What it holds stays with it, and comes to no owner.
	Damaged bool `json:"damaged,omitempty"`
	// Known is how many writes the copy was last known to have seen.
	Known uint64 `json:"known"`
}

// AcceptedLoss is the record of a loss that an operator has accepted.
type AcceptedLoss struct {
	Partition uint32     `json:"partition"`
	Node      string     `json:"node"` // whose copy was made whole
	TimeMS    int64      `json:"time_ms"`
	Copies    []LossCopy `json:"copies"`
}

// Forgetting is what is given up with a member that is forgotten.
type Forgetting struct {
	Name  string `json:"name"`
	ID    string `json:"id"`    // node ID of the data directory that may not return
	Alive bool   `json:"alive"` // it is connected, and is told to end
	Owned int    `json:"owned"` // partitions
	// Alone counts those of them that no other owner serves, as far as this node
	// can tell: what only the member held of them is lost.
	Alone int `json:"alone"`
	// Refused says why it may not be forgotten; empty where it may be.
	Refused string `json:"refused,omitempty"`
}

// Losses returns what would be given up at the node: of one partition, or why there is
// nothing to give up of it, or with AllPartitions of all that it owns and nobody serves.
func (c *Client) Losses(ctx context.Context, partition int) (Losses, error) {
	if partition == AllPartitions {
		return get[Losses](ctx, c, PathAcceptLoss)
	}
	return get[Losses](ctx, c, PathAcceptLoss+"?"+url.Values{"partition": {strconv.Itoa(partition)}}.Encode())
}

// AcceptLoss gives up one partition, or with AllPartitions every one that the node
// owns and whose copies are all new.
func (c *Client) AcceptLoss(ctx context.Context, partition int) (Losses, error) {
	query := url.Values{"partition": {strconv.Itoa(partition)}}
	if partition == AllPartitions {
		query = url.Values{"all-new": {"true"}}
	}
	return post[Losses](ctx, c, PathAcceptLoss+"?"+query.Encode(), nil)
}

// Forgetting returns what is given up with a member.
func (c *Client) Forgetting(ctx context.Context, name string) (Forgetting, error) {
	return get[Forgetting](ctx, c, PathForget+"?"+url.Values{"name": {name}}.Encode())
}

// Forget gives a member up, and what only it held: its data directory may not
// return.
func (c *Client) Forget(ctx context.Context, name string) (Forgetting, error) {
	return post[Forgetting](ctx, c, PathForget+"?"+url.Values{"name": {name}}.Encode(), nil)
}

// SyncLimits is what holds a node's syncs back: the settings sync.rate and sync.guard, as
// they are in force.
type SyncLimits struct {
	RateBytes int64   `json:"rate_bytes"` // a second that the node streams to others, 0: no limit
	Guard     float64 `json:"guard"`      // 0: off
}

// SyncLimits returns what holds the node's syncs back.
func (c *Client) SyncLimits(ctx context.Context) (SyncLimits, error) {
	return get[SyncLimits](ctx, c, PathSync)
}

// SetSync changes it until the node's next start or reload. The values are those of the
// settings; an empty one leaves its own as it is.
func (c *Client) SetSync(ctx context.Context, rate, guard string) (SyncLimits, error) {
	query := url.Values{}
	for name, value := range map[string]string{"rate": rate, "guard": guard} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return post[SyncLimits](ctx, c, PathSync+"?"+query.Encode(), nil)
}
