package policies

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	wasmrt "edged.dev/edged/runtime"
)

// The fallbacks: what is shown when a guest fails.
const (
	// FallbackKeep shows the newest sibling, marked unresolved.
	FallbackKeep = "keep"
	// FallbackLWW shows the newest sibling as if it had been picked.
	FallbackLWW = "lww"
	// FallbackBuiltin is the built-in plan, the only one of repair policies.
	FallbackBuiltin = BuiltinPlan
)

// The kinds of a policy.
const (
	// KindMerge decides what a read shows of siblings. It is meant where a record
	// names no kind.
	KindMerge = "merge"
	// KindRepair plans what is fetched first, from whom and how fast.
	KindRepair = "repair"
)

// The words of Manifest.Needs.
const (
	NeedKey    = "key"
	NeedValues = "values"
)

const manifestFormat = 1

// Limits is what one call of a policy may use; it is part of its identity.
type Limits struct {
	// Depth and Fuel are in the units of the cost model, MemoryPages in 64 KiB.
	Depth       int32  `json:"depth"`
	Fuel        int64  `json:"fuel"`
	MemoryPages uint32 `json:"memory_pages"`
}

func defaultLimits() Limits {
	l := wasmrt.DefaultLimits()
	return Limits{Depth: l.Depth, Fuel: l.Fuel, MemoryPages: l.MemoryPages}
}

func (l Limits) host() wasmrt.Limits {
	return wasmrt.Limits{Fuel: l.Fuel, Depth: l.Depth, MemoryPages: l.MemoryPages}
}

// Manifest describes a policy: the record policy/<id> of the system partition. It
// is written after the chunks of its module, so that who sees it can find them.
type Manifest struct {
	// Format is 1.
	Format int `json:"format"`
	// Name is for people: 1 to 64 of a-z, 0-9, dot, dash and underscore.
	Name string `json:"name"`
	// Kind is KindRepair, or empty for KindMerge.
	Kind string `json:"kind,omitempty"`
	// Module is the SHA-256 of the module in hexadecimal, Size its length, and
	// Chunks the names of its stored pieces in order.
	Module string   `json:"module"`
	Size   int      `json:"size"`
	Chunks []string `json:"chunks"`
	// Needs holds NeedKey and NeedValues, sorted, as far as the policy asks.
	Needs []string `json:"needs"`
	// Fallback is FallbackKeep or FallbackLWW, of repair policies FallbackBuiltin.
	Fallback string `json:"fallback"`
	// Limits of a call.
	Limits Limits `json:"limits"`
	// Params are bytes of the operator's that every request carries.
	Params []byte `json:"params,omitempty"`
	// CreatedMS is the Unix time of the upload in milliseconds.
	CreatedMS int64 `json:"created_ms"`
}

// ID returns the policy's identity: the SHA-256, in hexadecimal, of
//
//	"edged-policy-v1" 0x00 canonical
//
// where canonical is the JSON object with exactly these members, in this order,
// without white space (so in the form of RFC 8785):
//
//	abi, cost_model, fallback, kinds, limits{depth, fuel, memory_pages},
//	module_id, needs, params
//
// params is in hexadecimal. All that can change a result is in it; the name, the
// chunks and the time are not.
func (m Manifest) ID() string {
	canonical, err := json.Marshal(struct {
		ABI       string   `json:"abi"`
		CostModel int      `json:"cost_model"`
		Fallback  string   `json:"fallback"`
		Kinds     []string `json:"kinds"`
		Limits    Limits   `json:"limits"`
		ModuleID  string   `json:"module_id"`
		Needs     []string `json:"needs"`
		Params    string   `json:"params"`
	}{
		ABI: wasmrt.ABI, CostModel: wasmrt.CostModel, Fallback: m.Fallback, Kinds: []string{m.KindName()},
		Limits: m.Limits, ModuleID: m.Module, Needs: slices.Clip(append([]string{}, m.Needs...)),
		Params: hex.EncodeToString(m.Params),
	})
	if err != nil {
		panic("bug: manifest does not encode: " + err.Error())
	}
	sum := sha256.Sum256(append([]byte("edged-policy-v1\x00"), canonical...))
	return hex.EncodeToString(sum[:])
}

// KindName is KindMerge or KindRepair.
func (m Manifest) KindName() string {
	if m.Kind == "" {
		return KindMerge
	}
	return m.Kind
}

// export is the entry point of the policy's kind, warmup what it is called with
// before the module's image is taken.
func (m Manifest) export() string {
	if m.Kind == KindRepair {
		return repairExport
	}
	return mergeExport
}

func (m Manifest) warmup() []byte {
	if m.Kind == KindRepair {
		return repairWarmup(m.Params)
	}
	return warmup(m.needs(), m.Params)
}

func (m Manifest) needs() Needs {
	return Needs{Key: slices.Contains(m.Needs, NeedKey), Values: slices.Contains(m.Needs, NeedValues)}
}

func (m Manifest) validate() error {
	if m.Format != manifestFormat {
		return fmt.Errorf("format %d is not %d", m.Format, manifestFormat)
	}
	if err := validName(m.Name); err != nil {
		return err
	}
	if !isSHA256(m.Module) {
		return fmt.Errorf("module %.80q is no SHA-256", m.Module)
	}
	if m.Size < 1 || m.Size > MaxModuleBytes {
		return fmt.Errorf("module of %d bytes is not within 1 and %d", m.Size, MaxModuleBytes)
	}
	if len(m.Chunks) < 1 || len(m.Chunks) > maxChunks {
		return fmt.Errorf("%d chunks are not within 1 and %d", len(m.Chunks), maxChunks)
	}
	for _, c := range m.Chunks {
		if !isSHA256(c) {
			return fmt.Errorf("chunk %.80q is no SHA-256", c)
		}
	}
	for i, n := range m.Needs {
		if n != NeedKey && n != NeedValues || i > 0 && m.Needs[i-1] >= n {
			return fmt.Errorf("needs %.80q are not some of key, values in this order", m.Needs)
		}
	}
	if err := m.validKind(); err != nil {
		return err
	}
	if len(m.Params) > maxParamsBytes {
		return fmt.Errorf("params of %d bytes, the limit is %d", len(m.Params), maxParamsBytes)
	}
	return nil
}

// validKind holds what differs from kind to kind.
func (m Manifest) validKind() error {
	switch m.Kind {
	case "":
		if m.Fallback != FallbackKeep && m.Fallback != FallbackLWW {
			return fmt.Errorf("fallback %.80q is neither keep nor lww", m.Fallback)
		}
	case KindRepair:
		if m.Fallback != FallbackBuiltin {
			return fmt.Errorf("fallback %.80q is not %s, the one of repair policies", m.Fallback, FallbackBuiltin)
		}
		if len(m.Needs) > 0 {
			return fmt.Errorf("needs %.80q are of merges", m.Needs)
		}
	default:
		return fmt.Errorf("kind %.80q is not known", m.Kind)
	}
	return nil
}

// validName holds a policy's name to what is safe in a table, a label and a file.
func validName(name string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("name %.80q is not 1 to %d of a-z, 0-9, dot, dash and underscore", name, maxNameBytes)
	}
	return nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}

// Binding puts a policy in force for the keys with a prefix: the record
// binding/<SHA-256 of the prefix> of the system partition.
type Binding struct {
	// Format is 1.
	Format int `json:"format"`
	// Kind is KindRepair, or empty for KindMerge. A cluster has one binding of a
	// repair policy, with the empty prefix.
	Kind string `json:"kind,omitempty"`
	// Prefix may be empty: all keys. The longest prefix of a key wins.
	Prefix []byte `json:"prefix"`
	// Policy is LWW, Siblings, the id of a manifest, or empty: this prefix has no
	// binding any more, and a shorter one decides. Of the kind KindRepair it is
	// BuiltinPlan, an id, or empty.
	Policy string `json:"policy"`
	// Epoch rises with each change of any binding.
	Epoch uint64 `json:"epoch"`
	// Previous is the Policy of the epoch before, for rollback.
	Previous string `json:"previous"`
}

func (b Binding) validate() error {
	if b.Format != manifestFormat {
		return fmt.Errorf("format %d is not %d", b.Format, manifestFormat)
	}
	if len(b.Prefix) > MaxPrefixBytes {
		return fmt.Errorf("prefix of %d bytes, the limit is %d", len(b.Prefix), MaxPrefixBytes)
	}
	if b.Epoch == 0 {
		return errors.New("epoch 0")
	}
	if b.Kind != "" && b.Kind != KindRepair {
		return fmt.Errorf("kind %.80q is not known", b.Kind)
	}
	if b.Kind == KindRepair && len(b.Prefix) > 0 {
		return fmt.Errorf("a repair policy is of the whole cluster, and this one has the prefix %.80q", b.Prefix)
	}
	for _, id := range []string{b.Policy, b.Previous} {
		if id != "" && !builtinOf(b.Kind, id) && !isSHA256(id) {
			return fmt.Errorf("policy %.80q is no id", id)
		}
	}
	return nil
}

// builtinOf reports whether a policy of a kind needs no module.
func builtinOf(kind, id string) bool {
	if kind == KindRepair {
		return id == BuiltinPlan
	}
	return id == LWW || id == Siblings
}

func encodeRecord(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("bug: record does not encode: " + err.Error())
	}
	return b
}

// decodeRecord reads one JSON value, strictly: a member that is not known may
// change what the record means, so it is an error.
func decodeRecord(b []byte, v any) error {
	if len(b) > maxRecordBytes {
		return fmt.Errorf("record of %d bytes, the limit is %d", len(b), maxRecordBytes)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// DecodeManifest reads and checks the value of a policy/ record.
func DecodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := decodeRecord(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("decode manifest: %w", err)
	}
	if err := m.validate(); err != nil {
		return Manifest{}, fmt.Errorf("check manifest: %w", err)
	}
	return m, nil
}

// Encode returns the value of the policy/ record.
func (m Manifest) Encode() []byte { return encodeRecord(m) }

// DecodeBinding reads and checks the value of a binding/ record.
func DecodeBinding(b []byte) (Binding, error) {
	var v Binding
	if err := decodeRecord(b, &v); err != nil {
		return Binding{}, fmt.Errorf("decode binding: %w", err)
	}
	if err := v.validate(); err != nil {
		return Binding{}, fmt.Errorf("check binding: %w", err)
	}
	return v, nil
}

// Encode returns the value of the binding/ record.
func (b Binding) Encode() []byte { return encodeRecord(b) }
