package admin

import (
	"context"
	"strconv"
)

// PathScrub takes a POST, with ?partition=P or for all that the node holds, and
// answers when every copy was read whole.
const PathScrub = "/v1/scrub"

// Scrubbed is the answer of POST /v1/scrub.
type Scrubbed struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"` // of values and keys that were read
	// Damaged are the copies that do not hold what they have on record. They are
	// healed with the other owners' copies, which the events and /v1/rejoin tell.
	Damaged []DamagedCopy `json:"damaged"`
}

// DamagedCopy is what a scrub found of one copy.
type DamagedCopy struct {
	Partition uint32 `json:"partition"`
	// Keys are those whose records do not fit each other, some of them if they are
	// many; none where whole objects are gone.
	Keys [][]byte `json:"keys_base64,omitempty"`
}

// Scrub has the node read its own copy of a partition, or all of them
// (AllPartitions), and compute every checksum anew.
func (c *Client) Scrub(ctx context.Context, partition int) (Scrubbed, error) {
	path := PathScrub
	if partition != AllPartitions {
		path += "?partition=" + strconv.Itoa(partition)
	}
	return post[Scrubbed](ctx, c, path, nil)
}
