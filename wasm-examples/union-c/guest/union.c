// The union of sets. A value is a list of items, one a line; the answer holds each
// item of any sibling once, in byte order. No libc, no allocator: the request, the
// tables of items and the answer lie one behind the other on an arena.
#include "../../edged.h"

extern unsigned char __heap_base;

static uint32_t arena_top; // behind the request buffer

typedef struct {
  const uint8_t *at;
  uint32_t len;
} item;

// reserve makes the memory up to `end` usable.
static int reserve(uint64_t end) {
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (end <= have) return 1;
  if (end > 0xFFFFFFFFu) return 0;
  return __builtin_wasm_memory_grow(0, (uint32_t)((end - have + 0xFFFF) >> 16)) != (__SIZE_TYPE__)-1;
}

static uint32_t align8(uint32_t n) { return (n + 7) & ~7u; }

EDGED_EXPORT("edged_v1_alloc") uint32_t alloc(uint32_t size) {
  uint32_t base = align8((uint32_t)(__UINTPTR_TYPE__)&__heap_base);
  if (!reserve((uint64_t)base + align8(size))) return 0;
  arena_top = base + align8(size);
  return base;
}

static uint64_t word(const uint8_t *p) {
  uint64_t w;
  __builtin_memcpy(&w, p, sizeof w);
  return w;
}

// compare orders items by their bytes; equal stretches go eight at a time.
static int compare(item a, item b) {
  uint32_t n = a.len < b.len ? a.len : b.len, i = 0;
  while (i + 8 <= n && word(a.at + i) == word(b.at + i)) i += 8;
  for (; i < n; i++)
    if (a.at[i] != b.at[i]) return a.at[i] < b.at[i] ? -1 : 1;
  return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

// run_end returns where the run of rising items that begins at `i` ends.
static uint32_t run_end(const item *v, uint32_t i, uint32_t n) {
  for (i++; i < n && compare(v[i - 1], v[i]) <= 0;) i++;
  return i;
}

// sort is a merge sort of the runs that are there already: siblings that are
// themselves unions come in order, and two of them take one pass. It returns the
// sorted table, which is `v` or `spare`.
static item *sort(item *v, item *spare, uint32_t n) {
  while (run_end(v, 0, n) < n) {
    uint32_t out = 0;
    for (uint32_t a = 0; a < n;) {
      uint32_t b = run_end(v, a, n), b_end = b < n ? run_end(v, b, n) : n, a_end = b;
      while (a < a_end && b < b_end) spare[out++] = compare(v[a], v[b]) <= 0 ? v[a++] : v[b++];
      while (a < a_end) spare[out++] = v[a++];
      while (b < b_end) spare[out++] = v[b++];
      a = b_end;
    }
    item *t = v;
    v = spare;
    spare = t;
  }
  return v;
}

// collect appends the non-empty lines of a value to `out` and returns their number,
// or NO_ROOM.
#define NO_ROOM 0xFFFFFFFFu
static uint32_t collect(const uint8_t *p, uint32_t len, item *out) {
  uint32_t n = 0, start = 0;
  for (uint32_t i = 0; i <= len; i++) {
    if (i < len && p[i] != '\n') continue;
    if (i > start) {
      if (!reserve((uint64_t)(__UINTPTR_TYPE__)(out + n + 1))) return NO_ROOM;
      out[n++] = (item){p + start, i - start};
    }
    start = i + 1;
  }
  return n;
}

// unite writes the union of one conflict's values to `out` and returns its length,
// or NO_ROOM. The tables are made at `items`.
static uint32_t unite(const uint8_t *request, const edged_conflict *c, item *items, uint8_t *out) {
  const edged_sibling *s = (const edged_sibling *)(request + c->sib_off);
  uint32_t n = 0, len = 0;
  for (uint32_t i = 0; i < c->sib_count; i++) {
    uint32_t more = collect(request + s[i].val_off, s[i].val_len, items + n);
    if (more == NO_ROOM) return NO_ROOM;
    n += more;
  }
  item *spare = items + n;
  if (!reserve((uint64_t)(__UINTPTR_TYPE__)(spare + n))) return NO_ROOM;
  items = sort(items, spare, n);
  for (uint32_t i = 0; i < n; i++) {
    if (i > 0 && compare(items[i - 1], items[i]) == 0) continue;
    if (len > 0) out[len++] = '\n';
    __builtin_memcpy(out + len, items[i].at, items[i].len); // one memory.copy
    len += items[i].len;
  }
  return len;
}

// values_bound is how many bytes the unions of all conflicts can have together.
static uint32_t values_bound(const uint8_t *request, const edged_conflict *c, uint32_t count) {
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    const edged_sibling *s = (const edged_sibling *)(request + c[i].sib_off);
    for (uint32_t j = 0; j < c[i].sib_count; j++) bytes += s[j].val_len + 1;
  }
  return bytes;
}

EDGED_EXPORT("edged_v1_merge") uint64_t merge(uint32_t ptr, uint32_t length) {
  const uint8_t *request = (const uint8_t *)(__UINTPTR_TYPE__)ptr;
  const edged_request *h = (const edged_request *)request;
  if (length < sizeof *h || h->magic != EDGED_REQUEST_MAGIC) return edged_result(0, 1);
  const edged_conflict *conflicts = (const edged_conflict *)(request + h->index_off);
  uint32_t answer = align8(arena_top), total = sizeof(edged_response) + h->count * sizeof(edged_verdict);
  uint32_t table = align8(answer + total + values_bound(request, conflicts, h->count));
  if (!reserve(table)) return edged_result(0, 2);

  uint8_t *out = (uint8_t *)(__UINTPTR_TYPE__)answer;
  edged_verdict *verdicts = (edged_verdict *)(out + sizeof(edged_response));
  for (uint32_t i = 0; i < h->count; i++) {
    uint32_t len = unite(request, &conflicts[i], (item *)(__UINTPTR_TYPE__)table, out + total);
    if (len == NO_ROOM) return edged_result(0, 2);
    if (len > conflicts[i].max_value) {
      verdicts[i] = (edged_verdict){.kind = EDGED_ERROR, .index = 3};
      continue;
    }
    verdicts[i] = (edged_verdict){.kind = EDGED_VALUE, .off = total, .len = len, .aux = EDGED_LATEST};
    total += len;
  }
  *(edged_response *)out = (edged_response){EDGED_RESPONSE_MAGIC, total, h->count, 0};
  return edged_result(answer, total);
}
