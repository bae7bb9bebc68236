;; A repair policy for tests that answers what its params say: a plan's frame as it
;; is, or a letter for a way to fail, or c: one step whose rate counts the calls.
(module
  (import "edged_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (global $calls (mut i32) (i32.const 1000))
  (func (export "edged_v1_alloc") (param $n i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (i32.const 4096) (local.get $n)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1)
                  (memory.grow (i32.add (i32.const 1) (i32.shr_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
              (then (return (i32.const 0))))))
    (i32.const 4096))
  (func $recurse (call $recurse) (call $recurse))
  (func $count (result i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store (i32.const 8) (i32.const 0x31504445)) ;; EDP1
    (i32.store (i32.const 12) (i32.const 48))
    (i32.store (i32.const 16) (i32.const 1))
    (i32.store8 (i32.const 28) (i32.const 2)) ;; sync range 0
    (i32.store (i32.const 32) (i32.add (global.get $calls) (i32.load (i32.const 2048))))
    (i32.store (i32.const 2048) (i32.add (i32.const 1) (i32.load (i32.const 2048))))
    (i64.const 0x800000030))
  (func (export "edged_v1_repair") (param $ptr i32) (param $len i32) (result i64)
    (local $params i32) (local $n i32) (local $op i32)
    (local.set $params (i32.add (local.get $ptr) (i32.load offset=24 (local.get $ptr))))
    (local.set $n (i32.load offset=28 (local.get $ptr)))
    (local.set $op (i32.load8_u (local.get $params)))
    (if (i32.eq (local.get $op) (i32.const 108)) (then (loop $l (br $l)))) ;; l
    (if (i32.eq (local.get $op) (i32.const 116)) ;; t
      (then (call $log (i32.const 0) (local.get $params) (local.get $n)) unreachable))
    (if (i32.eq (local.get $op) (i32.const 114)) (then (call $recurse))) ;; r
    (if (i32.eq (local.get $op) (i32.const 112)) (then (return (i64.const 0xffffff00000000ff)))) ;; p
    (if (i32.eq (local.get $op) (i32.const 103)) (then (return (i64.const 9)))) ;; g
    (if (i32.eq (local.get $op) (i32.const 120)) (then (return (i64.const 0x8007fffffff)))) ;; x
    (if (i32.eq (local.get $op) (i32.const 99)) (then (return (call $count)))) ;; c
    (i64.or (i64.shl (i64.extend_i32_u (local.get $params)) (i64.const 32)) (i64.extend_i32_u (local.get $n)))))
