// edged.h: ABI v1 of edged merge policies, for freestanding C.
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

// edged_result packs an answer. A pointer of 0 is a failure with code len.
static inline uint64_t edged_result(uint32_t ptr, uint32_t len) { return (uint64_t)ptr << 32 | len; }

// edged_log keeps a line for people: at most 16 lines of 256 bytes a call. Only a
// policy that calls it imports it.
EDGED_IMPORT("edged_v1", "log") void edged_log(int32_t level, const char *line, uint32_t len);

#endif
