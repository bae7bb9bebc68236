// The union of sets. A value is a list of items, one a line; the answer holds each
// item of any sibling once, in byte order. It uses raw memory only, so that the
// module has no garbage collector and no start-up work.

const REQUEST_MAGIC: u32 = 0x314d4445; // "EDM1"
const RESPONSE_MAGIC: u32 = 0x31524445; // "EDR1"
const CONFLICT_BYTES: u32 = 24;
const SIBLING_BYTES: u32 = 48;
const RESPONSE_BYTES: u32 = 16;
const VERDICT_BYTES: u32 = 16;
const ITEM_BYTES: u32 = 8; // where an item is, and its length
const KIND_VALUE: u8 = 1;
const KIND_ERROR: u8 = 4;
const EXPIRE_LATEST: u32 = 2;
const NEWLINE: u8 = 10;
const NO_ROOM: u32 = 0xffffffff;

let arenaTop: u32 = 0; // behind the request buffer

function align8(n: u32): u32 {
  return (n + 7) & ~7;
}

// reserve makes the memory up to `end` usable.
function reserve(end: u64): bool {
  const have = (<u64>memory.size()) << 16;
  if (end <= have) return true;
  if (end > 0xffffffff) return false;
  return memory.grow(<i32>((end - have + 0xffff) >> 16)) != -1;
}

// edged_v1_alloc returns the buffer for a request. There is one request at a time,
// so the arena begins anew.
export function edged_v1_alloc(size: u32): u32 {
  const base = align8(<u32>__heap_base);
  if (!reserve(<u64>base + <u64>align8(size))) return 0;
  arenaTop = base + align8(size);
  return base;
}

// compareItems orders items by their bytes; equal stretches go eight at a time.
function compareItems(a: u32, b: u32): i32 {
  const aAt = load<u32>(a), aLen = load<u32>(a, 4);
  const bAt = load<u32>(b), bLen = load<u32>(b, 4);
  const n = min(aLen, bLen);
  let i: u32 = 0;
  while (i + 8 <= n && load<u64>(aAt + i) == load<u64>(bAt + i)) i += 8;
  for (; i < n; i++) {
    const x = load<u8>(aAt + i), y = load<u8>(bAt + i);
    if (x != y) return x < y ? -1 : 1;
  }
  if (aLen == bLen) return 0;
  return aLen < bLen ? -1 : 1;
}

// runEnd returns where the run of rising items that begins at `at` ends.
function runEnd(at: u32, end: u32): u32 {
  for (at += ITEM_BYTES; at < end && compareItems(at - ITEM_BYTES, at) <= 0; ) at += ITEM_BYTES;
  return min(at, end);
}

// sortItems is a merge sort of the runs that are there already: siblings that are
// themselves unions come in order, and two of them take one pass. It returns the
// sorted table, which is `table` or `spare`.
function sortItems(table: u32, spare: u32, n: u32): u32 {
  const bytes = n * ITEM_BYTES;
  while (runEnd(table, table + bytes) < table + bytes) {
    const end = table + bytes;
    let out = spare;
    for (let a = table; a < end; ) {
      const aEnd = runEnd(a, end);
      let b = aEnd;
      const bEnd = b < end ? runEnd(b, end) : end;
      while (a < aEnd && b < bEnd) {
        if (compareItems(a, b) <= 0) {
          store<u64>(out, load<u64>(a));
          a += ITEM_BYTES;
        } else {
          store<u64>(out, load<u64>(b));
          b += ITEM_BYTES;
        }
        out += ITEM_BYTES;
      }
      memory.copy(out, a, aEnd - a);
      out += aEnd - a;
      memory.copy(out, b, bEnd - b);
      out += bEnd - b;
      a = bEnd;
    }
    const t = table;
    table = spare;
    spare = t;
  }
  return table;
}

// collect writes the non-empty lines of a value to the table and returns where the
// table ends, or 0 where there is no memory.
function collect(at: u32, len: u32, table: u32): u32 {
  let start: u32 = 0;
  for (let i: u32 = 0; i <= len; i++) {
    if (i < len && load<u8>(at + i) != NEWLINE) continue;
    if (i > start) {
      if (!reserve(<u64>table + ITEM_BYTES)) return 0;
      store<u32>(table, at + start);
      store<u32>(table, i - start, 4);
      table += ITEM_BYTES;
    }
    start = i + 1;
  }
  return table;
}

// unite writes the union of one conflict's values to `out` and returns its length,
// or NO_ROOM. The tables are made at `table`.
function unite(request: u32, conflict: u32, table: u32, out: u32): u32 {
  const siblings = request + load<u32>(conflict, 8);
  const count = <u32>load<u16>(conflict, 12);
  let end = table, len: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const s = siblings + i * SIBLING_BYTES;
    end = collect(request + load<u32>(s), load<u32>(s, 4), end);
    if (end == 0) return NO_ROOM;
  }
  const n = (end - table) / ITEM_BYTES;
  if (!reserve(<u64>end + n * ITEM_BYTES)) return NO_ROOM;
  table = sortItems(table, end, n);
  for (let i: u32 = 0; i < n; i++) {
    const item = table + i * ITEM_BYTES;
    if (i > 0 && compareItems(item - ITEM_BYTES, item) == 0) continue;
    if (len > 0) store<u8>(out + len++, NEWLINE);
    const size = load<u32>(item, 4);
    memory.copy(out + len, load<u32>(item), size);
    len += size;
  }
  return len;
}

// valuesBound is how many bytes the unions of all conflicts can have together.
function valuesBound(request: u32, conflicts: u32, count: u32): u32 {
  let bytes: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const conflict = conflicts + i * CONFLICT_BYTES;
    const siblings = request + load<u32>(conflict, 8), n = <u32>load<u16>(conflict, 12);
    for (let j: u32 = 0; j < n; j++) bytes += load<u32>(siblings + j * SIBLING_BYTES, 4) + 1;
  }
  return bytes;
}

// edged_v1_merge answers each conflict with the union of its siblings. The request,
// the answer and the tables lie one behind the other.
export function edged_v1_merge(request: u32, length: u32): u64 {
  if (length < 32 || load<u32>(request) != REQUEST_MAGIC) return 1;
  const count = load<u32>(request, 8), conflicts = request + load<u32>(request, 12);
  const out = align8(arenaTop);
  let total = RESPONSE_BYTES + count * VERDICT_BYTES;
  const table = align8(out + total + valuesBound(request, conflicts, count));
  if (!reserve(table)) return 2;

  for (let i: u32 = 0; i < count; i++) {
    const conflict = conflicts + i * CONFLICT_BYTES, v = out + RESPONSE_BYTES + i * VERDICT_BYTES;
    const len = unite(request, conflict, table, out + total);
    if (len == NO_ROOM) return 2;
    store<u64>(v, 0);
    store<u64>(v, 0, 8);
    if (len > load<u32>(conflict, 16)) {
      store<u8>(v, KIND_ERROR);
      store<u16>(v, 3, 2);
      continue;
    }
    store<u8>(v, KIND_VALUE);
    store<u32>(v, total, 4);
    store<u32>(v, len, 8);
    store<u32>(v, EXPIRE_LATEST, 12);
    total += len;
  }
  store<u32>(out, RESPONSE_MAGIC);
  store<u32>(out, total, 4);
  store<u32>(out, count, 8);
  store<u32>(out, 0, 12);
  return ((<u64>out) << 32) | <u64>total;
}
