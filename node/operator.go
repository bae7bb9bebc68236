package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/internal/kv"
	"edged.dev/edged/internal/layout"
	"edged.dev/edged/replica/core"
	"edged.dev/edged/transport"
)

// lossPrefix begins the keys of the losses that operators have accepted, in the
// system partition.
const lossPrefix = "loss/"

// operator carries out what an operator decides and no node may by itself.
type operator struct{ n *Node }

// Losses implements httpapi.Operator.
func (o operator) Losses(partition int) admin.Losses {
	var out admin.Losses
	if partition == admin.AllPartitions {
		for _, l := range o.n.replica.Losses() {
			out.Partitions = append(out.Partitions, lossOf(l))
		}
	} else {
		out.Partitions = []admin.Loss{lossOf(o.n.replica.Loss(kv.Partition(partition)))}
	}
	o.n.system.mu.Lock()
	defer o.n.system.mu.Unlock()
	out.Accepted = slices.Clone(o.n.system.losses)
	return out
}

func lossOf(l core.Loss) admin.Loss {
	out := admin.Loss{Partition: uint32(l.Partition), Refused: l.Refused}
	for _, c := range l.Copies {
		a := admin.LossCopy{Node: c.Name, Reached: c.Reached, Damaged: c.Damaged, Known: c.Known}
		if c.Reached {
			a.Trust = c.Trust.String()
		}
		out.Copies = append(out.Copies, a)
	}
	return out
}

// AcceptLoss implements httpapi.Operator. The record in the system partition comes
// first: what nobody could read of later is not done.
func (o operator) AcceptLoss(ctx context.Context, partition int) (admin.Losses, error) {
	var due []admin.Loss
	if partition == admin.AllPartitions {
		for _, l := range o.n.replica.Losses() {
			if l.Refused == "" {
				due = append(due, lossOf(l))
			}
		}
	} else {
		l := o.n.replica.Loss(kv.Partition(partition))
		if l.Refused != "" {
			return admin.Losses{}, &admin.Problem{Type: "no-loss", Title: "nothing to accept", Status: http.StatusConflict, Detail: l.Refused}
		}
		due = append(due, lossOf(l))
	}
	var out admin.Losses
	for _, l := range due {
		if err := o.acceptOne(ctx, l); err != nil {
			return out, err
		}
		out.Partitions = append(out.Partitions, l)
	}
	return out, nil
}

func (o operator) acceptOne(ctx context.Context, l admin.Loss) error {
	value, err := json.Marshal(admin.AcceptedLoss{Partition: l.Partition, Node: o.n.id.Name, TimeMS: o.n.clocks.wallMS(), Copies: l.Copies})
	if err != nil {
		return fmt.Errorf("record loss of partition %d: %w", l.Partition, err)
	}
	if _, err := o.n.system.write(ctx, lossPrefix+strconv.FormatUint(uint64(l.Partition), 10), value); err != nil {
		return fmt.Errorf("record loss of partition %d: %w", l.Partition, err)
	}
	if err := o.n.replica.AcceptLoss(ctx, kv.Partition(l.Partition)); err != nil {
		return kv.Errorf(kv.CodeUnavailable, "%v", err)
	}
	o.n.log.Warn("an operator has accepted the loss of a partition", slog.Uint64("partition", uint64(l.Partition)))
	return nil
}

// lossesOf reads the versions of one record; the newest first.
func lossesOf(live []kv.Version) []admin.AcceptedLoss {
	var out []admin.AcceptedLoss
	for _, v := range live {
		var l admin.AcceptedLoss
		if json.Unmarshal(v.Value, &l) == nil {
			out = append(out, l)
		}
	}
	return out
}

// forgotten says that an operator has given this directory up.
func forgotten(name string) error {
	return fmt.Errorf("an operator has forgotten %s: what this data directory holds is given up, and it may not return; move it away, and the node returns with an empty one", name)
}

// Forgetting implements httpapi.Operator.
func (o operator) Forgetting(name string) (admin.Forgetting, error) {
	m, ok := o.n.system.member(name)
	if !ok {
		return admin.Forgetting{}, &admin.Problem{Type: "no-such-node", Title: "no such node", Status: http.StatusNotFound, Detail: "there is no member " + name}
	}
	f := admin.Forgetting{Name: name, ID: kv.NodeID(m.Node).String(), Alive: o.n.links.transport.Peer(name) != nil}
	switch {
	case name == o.n.id.Name:
		f.Alive = true
		f.Refused = "this is the node that was asked; ask another one"
	case m.Status != layout.Active:
		f.Refused = "it is " + m.Status.String() + " already"
	}
	for p := range o.n.replica.Parts() {
		if p.Partition == kv.System || !slices.Contains(p.Owners, name) {
			continue
		}
		f.Owned++
		if !slices.ContainsFunc(p.Serving, func(s string) bool { return s != name }) {
			f.Alone++
		}
	}
	return f, nil
}

// Forget implements httpapi.Operator: the member's entry becomes FORGOTTEN, so that
// no node lets that data directory in, and others own what it owned.
func (o operator) Forget(ctx context.Context, name string) (admin.Forgetting, error) {
	f, err := o.Forgetting(name)
	if err != nil {
		return f, err
	}
	if f.Refused != "" {
		return f, &admin.Problem{Type: "not-forgotten", Title: "not forgotten", Status: http.StatusConflict, Detail: f.Refused}
	}
	s := o.n.system
	s.mu.Lock()
	m, former := s.members[name], slices.Clone(s.former[name])
	s.mu.Unlock()
	value, err := json.Marshal(memberEntry{
		Name: name, Node: kv.NodeID(m.Node), Epoch: m.Epoch + 1, Addresses: m.Addresses, Weight: m.Weight, Zone: m.Zone,
		Former: former, Status: layout.Forgotten.String(),
	})
	if err != nil {
		return f, fmt.Errorf("forget %s: %w", name, err)
	}
	if _, err := s.write(ctx, memberPrefix+name, value); err != nil {
		return f, fmt.Errorf("forget %s: %w", name, err)
	}
	o.n.log.Warn("an operator has forgotten a member", slog.String("member", name), slog.String("node_id", f.ID))
	o.n.events.emit(admin.Event{Kind: "node.forgotten", Node: name, Text: "an operator has given it up, and what only it held"})
	return f, nil
}

// dropForgotten ends the connections of members that were forgotten: their next
// CONN is told so.
func (s *system) dropForgotten(members map[string]layout.Member) {
	for name, m := range members {
		p := s.node.links.transport.Peer(name)
		if m.Status == layout.Forgotten && p != nil && p.Info().Node == m.Node {
			p.Close(transport.CloseRefused, "an operator has forgotten this node")
		}
	}
}

// Sync implements httpapi.Operator. What is set holds until the next start or reload, which
// bring the settings' own.
func (o operator) Sync(rate, guard string) (admin.SyncLimits, error) {
	n := o.n
	next := Config{SyncRateBytes: n.syncRate.Load(), SyncGuard: float64(n.syncGuard.Load()) / 1000}
	var errs []error
	for _, s := range Settings() {
		value := map[string]string{"sync.rate": rate, "sync.guard": guard}[s.Key]
		if value == "" {
			continue
		}
		if err := s.Set(&next, value); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, next.syncErrors()...)
	if err := errors.Join(errs...); err != nil {
		what, _, _ := strings.Cut(err.Error(), "\n")
		return admin.SyncLimits{}, &admin.Problem{Type: "invalid-setting", Title: "invalid setting", Status: http.StatusBadRequest, Detail: what}
	}
	if rate != "" || guard != "" {
		n.syncRate.Store(next.SyncRateBytes)
		n.syncGuard.Store(next.SyncGuardPermille())
		n.log.Info("an operator has changed what holds syncs back", slog.String("rate", FormatSize(next.SyncRateBytes)), slog.Float64("guard", next.SyncGuard))
	}
	return admin.SyncLimits{RateBytes: next.SyncRateBytes, Guard: next.SyncGuard}, nil
}
