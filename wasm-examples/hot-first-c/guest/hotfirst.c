// Hot prefixes first. Partitions that clients read most are fetched before the
// others, and in each the keys with the prefixes that are read most.
#include "../../edged.h"

extern unsigned char __heap_base;

static uint32_t arena_top; // behind the request buffer

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

// heat is how often a range is read, as a power of two: what differs by less is
// fetched together, as every group costs a question of its own.
static uint16_t heat(uint32_t reads_per_s) { return reads_per_s ? (uint16_t)(32 - __builtin_clz(reads_per_s)) : 0; }

enum { MAX_RULES = 16, MAX_FILTER = 1024 };

// hot_filter writes the rules that put the hottest prefixes first, and returns
// their length.
static uint32_t hot_filter(const uint8_t *request, const edged_repair *h, uint8_t *out) {
  if (!(h->flags & EDGED_HAS_LOAD)) return 0;
  const edged_load *load = (const edged_load *)(h + 1);
  const edged_hot *hot = (const edged_hot *)(request + load->hot_off);
  uint32_t len = 0;
  for (uint32_t i = 0; i < load->hot_count && i < MAX_RULES; i++) {
    uint32_t n = hot[i].prefix_len;
    if (len + sizeof(edged_rule) + n > MAX_FILTER) break;
    edged_rule rule = {EDGED_FIRST, 0, (uint16_t)n};
    __builtin_memcpy(out + len, &rule, sizeof rule);
    __builtin_memcpy(out + len + sizeof rule, request + hot[i].prefix_off, n);
    len += sizeof rule + n;
  }
  return len;
}

EDGED_EXPORT("edged_v1_repair") uint64_t repair(uint32_t ptr, uint32_t length) {
  const uint8_t *request = (const uint8_t *)(__UINTPTR_TYPE__)ptr;
  const edged_repair *h = (const edged_repair *)request;
  if (length < sizeof *h || h->magic != EDGED_REPAIR_MAGIC) return edged_result(0, 1);
  const edged_range *ranges = (const edged_range *)(request + h->ranges_off);
  uint32_t count = h->range_count < h->max_steps ? h->range_count : h->max_steps;
  uint32_t answer = align8(arena_top), filter = sizeof(edged_response) + count * sizeof(edged_step);
  if (!reserve((uint64_t)answer + filter + MAX_FILTER)) return edged_result(0, 2);

  uint8_t *out = (uint8_t *)(__UINTPTR_TYPE__)answer;
  edged_step *steps = (edged_step *)(out + sizeof(edged_response));
  uint32_t filter_len = hot_filter(request, h, out + filter);
  for (uint32_t i = 0; i < count; i++) {
    steps[i] = (edged_step){
        .range = i,
        .strategy = EDGED_SYNC,
        .priority = heat(ranges[i].reads_per_s),
        .filter_off = filter_len ? filter : 0,
        .filter_len = filter_len,
    };
  }
  uint32_t total = filter + filter_len;
  *(edged_response *)out = (edged_response){EDGED_PLAN_MAGIC, total, count, 0};
  return edged_result(answer, total);
}
