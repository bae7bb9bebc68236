;; A policy for tests that answers what its params say: a response frame as it is,
;; or a letter for a way to fail.
(module
  (import "edged_v1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (func (export "edged_v1_alloc") (param $n i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (i32.const 4096) (local.get $n)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1)
                  (memory.grow (i32.add (i32.const 1) (i32.shr_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
              (then (return (i32.const 0))))))
    (i32.const 4096))
  (func $recurse (call $recurse) (call $recurse))
  (func (export "edged_v1_merge") (param $ptr i32) (param $len i32) (result i64)
    (local $params i32) (local $n i32) (local $op i32)
    (local.set $params (i32.add (local.get $ptr) (i32.load offset=16 (local.get $ptr))))
    (local.set $n (i32.load offset=20 (local.get $ptr)))
    (local.set $op (i32.load8_u (local.get $params)))
    (if (i32.eq (local.get $op) (i32.const 108)) (then (loop $l (br $l)))) ;; l
    (if (i32.eq (local.get $op) (i32.const 116)) ;; t
      (then (call $log (i32.const 0) (local.get $params) (local.get $n)) unreachable))
    (if (i32.eq (local.get $op) (i32.const 114)) (then (call $recurse))) ;; r
    (if (i32.eq (local.get $op) (i32.const 109)) ;; m
      (then (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))
    (if (i32.eq (local.get $op) (i32.const 112)) (then (return (i64.const 0xffffff00000000ff)))) ;; p
    (if (i32.eq (local.get $op) (i32.const 103)) (then (return (i64.const 9)))) ;; g
    (if (i32.eq (local.get $op) (i32.const 120)) (then (return (i64.const 0x8007fffffff)))) ;; x
    (i64.or (i64.shl (i64.extend_i32_u (local.get $params)) (i64.const 32)) (i64.extend_i32_u (local.get $n)))))
