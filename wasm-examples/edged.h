// edged.h: ABI v1 of edged policies, for freestanding C. Merges come first, repair
// plans below them.
//
// The host writes a request into the buffer that edged_v1_alloc returned and calls
// edged_v1_merge(pointer, length). The answer's pointer and length come back in
// one 64-bit number. All numbers are little endian, all offsets count from the
// beginning of their frame, blobs and records lie at multiples of 8.
#ifndef EDGED_H
#define EDGED_H

#include <stdint.h>

#define EDGED_EXPORT(name) __attribute__((export_name(name)))
#define EDGED_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

#define EDGED_REQUEST_MAGIC 0x314D4445u  // "EDM1"
#define EDGED_RESPONSE_MAGIC 0x31524445u // "EDR1"

// The request: header, `count` conflicts at index_off, then their siblings and blobs.
typedef struct {
  uint32_t magic, total_len, count, index_off;
  uint32_t params_off, params_len; // what the operator gave along; 0 if nothing
  uint32_t flags, reserved;        // 0
} edged_request;

// One object with 2 to 32 siblings.
typedef struct {
  uint32_t key_off, key_len;
  uint32_t sib_off; // of edged_sibling[sib_count], newest first
  uint16_t sib_count, flags;
  uint32_t max_value; // longest value that may be answered
  uint32_t reserved;
} edged_conflict;

enum { EDGED_HAS_TTL = 2, EDGED_WITHHELD = 4 };

// One live version. (hlc, actor, counter) is unique and falls from one sibling to
// the next; no two siblings have both the same value and the same expiry.
typedef struct {
  uint32_t val_off, val_len;
  uint64_t hlc, actor, counter;
  uint32_t reserved0;
  uint16_t reserved1, flags; // EDGED_HAS_TTL, EDGED_WITHHELD (val_off is 0)
  uint64_t expires_ms;       // Unix time; 0 without EDGED_HAS_TTL
} edged_sibling;

// The response: header, one verdict a conflict, then the values.
typedef struct {
  uint32_t magic, total_len, count, reserved;
} edged_response;

enum {
  EDGED_PICK = 0,   // show sibling `index`
  EDGED_VALUE = 1,  // show the value at off, len; aux says how it expires
  EDGED_ABSENT = 2, // show "not found"
  EDGED_KEEP = 3,   // cannot tell: the newest is shown, marked unresolved
  EDGED_ERROR = 4,  // failed with the policy's own code `index`: the fallback
};

// aux of EDGED_VALUE.
enum { EDGED_NEVER = 0, EDGED_EARLIEST = 1, EDGED_LATEST = 2 };

// Fields that a kind does not use must be 0.
typedef struct {
  uint8_t kind, flags;
  uint16_t index;
  uint32_t off, len, aux;
} edged_verdict;

_Static_assert(sizeof(edged_request) == 32, "request header");
_Static_assert(sizeof(edged_conflict) == 24, "conflict record");
_Static_assert(sizeof(edged_sibling) == 48, "sibling record");
_Static_assert(sizeof(edged_response) == 16, "response header");
_Static_assert(sizeof(edged_verdict) == 16, "verdict record");

// --- Repair policies: edged_v1_repair(pointer, length) answers a plan.

#define EDGED_REPAIR_MAGIC 0x31514445u // "EDQ1"
#define EDGED_PLAN_MAGIC 0x31504445u   // "EDP1"

// What there is to repair: partitions that this node may fetch from a peer.
typedef struct {
  uint32_t magic, total_len;
  uint32_t range_count, ranges_off;     // of edged_range
  uint32_t replica_count, replicas_off; // of edged_replica; the first is this node
  uint32_t params_off, params_len;
  uint64_t budget_bytes; // that repair may move in the 5 s of a round, 0: no limit is set
  uint32_t max_steps;
  uint32_t cpu_permille; // processor time that this node uses
  uint32_t inflight;     // sessions under way
  uint32_t flags;        // EDGED_HAS_LOAD: an edged_load stands behind the header
  uint64_t tick_s;       // Unix time
} edged_repair;

enum { EDGED_HAS_LOAD = 1 };

// What clients do to this node.
typedef struct {
  uint32_t p99_us, requests_per_s; // 0: nothing was asked lately
  int32_t utc_offset_s;            // local time is tick_s + utc_offset_s
  uint32_t hot_count, hot_off;     // of edged_hot, the most read first
  uint32_t reserved[3];
} edged_load;

// One partition and one peer that has more of it; reads_per_s are those of the
// clients here or at one of the donors, whichever are more. A partition comes once for each
// peer that it may be fetched from. Counts of keys, bytes and dots are estimates.
typedef struct {
  uint64_t range_id;    // the partition
  uint32_t from, to;    // of replicas: who has more; this node
  uint64_t diverging_keys, total_keys, bytes, dots_missing;
  uint32_t age_s, last_repair_age_s, reads_per_s;
  uint16_t rtt_ms, failures; // failures: sessions that broke off
} edged_range;

// A node. What is not known of another is 0. egress_kib_s is what it sends to other
// nodes, the streams of repair aside.
typedef struct {
  uint64_t node_id;
  uint32_t cpu_permille, mem_permille, egress_kib_s, rtt_us;
  uint16_t zone, state, link; // zone 0: none
  uint16_t reserved;
} edged_replica;

enum { EDGED_UP = 0, EDGED_SUSPECT = 1, EDGED_DRAINING = 2, EDGED_REJOINING = 3 };
enum { EDGED_LINK_UNKNOWN = 0, EDGED_LOCAL = 1, EDGED_NEAR = 2, EDGED_FAR = 3 }; // below 1 ms, below 20 ms, beyond

typedef struct {
  uint32_t prefix_off, prefix_len, reads_per_s, reserved;
} edged_hot;

// The answer: edged_response with EDGED_PLAN_MAGIC, then `count` steps, then their
// filters. The host drops what there is not, clamps what is too much, and repairs
// what was delayed for ten minutes.
typedef struct {
  uint32_t range; // index of a range; each at most once
  uint8_t strategy, direction;
  uint16_t priority;   // the highest first
  uint32_t rate_kib_s; // 0: the default
  uint32_t delay_ms;
  uint64_t max_bytes; // 0: all
  uint32_t filter_off, filter_len;
} edged_step;

enum { EDGED_SKIP = 0, EDGED_DEFER = 1, EDGED_SYNC = 2, EDGED_SCRUB = 3 };
enum { EDGED_BOTH = 0, EDGED_FETCH = 1 };

// A filter is rules, one behind the other, each with its prefix behind it: which
// keys of the range go first and which last. At most 16 rules and 1 KiB. Steps may
// share a filter.
typedef struct {
  uint8_t op, kind; // kind 0: a prefix
  uint16_t len;
} edged_rule;

enum { EDGED_FIRST = 0, EDGED_LAST = 1 };

_Static_assert(sizeof(edged_repair) == 64, "repair header");
_Static_assert(sizeof(edged_load) == 32, "load record");
_Static_assert(sizeof(edged_range) == 64, "range record");
_Static_assert(sizeof(edged_replica) == 32, "replica record");
_Static_assert(sizeof(edged_hot) == 16, "hot record");
_Static_assert(sizeof(edged_step) == 32, "step record");
_Static_assert(sizeof(edged_rule) == 4, "rule");

// edged_result packs an answer. A pointer of 0 is a failure with code len.
static inline uint64_t edged_result(uint32_t ptr, uint32_t len) { return (uint64_t)ptr << 32 | len; }

// edged_log keeps a line for people: at most 16 lines of 256 bytes a call. Only a
// policy that calls it imports it.
EDGED_IMPORT("edged_v1", "log") void edged_log(int32_t level, const char *line, uint32_t len);

#endif
