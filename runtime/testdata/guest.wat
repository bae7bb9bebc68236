;; A guest for tests: the first byte of the request says what to do.
(module
  (import "edged_v1" "log" (func $log (param i32 i32 i32)))
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (type $unary (func (param i32) (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $deep)
  (memory (export "memory") 2)
  (global $count (mut i32) (i32.const 7))
  (data (i32.const 256) "stdout line")

  (func (export "edged_v1_alloc") (param $n i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (i32.const 4096) (local.get $n)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1)
                  (memory.grow (i32.add (i32.const 1) (i32.shr_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
              (then (return (i32.const 0))))))
    (i32.const 4096))

  (func $deep (param i32) (result i32)
    (i32.add (call_indirect (type $unary) (i32.add (local.get 0) (i32.const 1)) (i32.const 0)) (i32.const 1)))

  ;; 2^40 calls without a loop.
  (func $f0) (func $f1 (call $f0) (call $f0) (call $f0) (call $f0)) (func $f2 (call $f1) (call $f1) (call $f1) (call $f1))
  (func $f3 (call $f2) (call $f2) (call $f2) (call $f2)) (func $f4 (call $f3) (call $f3) (call $f3) (call $f3))
  (func $f5 (call $f4) (call $f4) (call $f4) (call $f4)) (func $f6 (call $f5) (call $f5) (call $f5) (call $f5))
  (func $f7 (call $f6) (call $f6) (call $f6) (call $f6)) (func $f8 (call $f7) (call $f7) (call $f7) (call $f7))
  (func $f9 (call $f8) (call $f8) (call $f8) (call $f8)) (func $f10 (call $f9) (call $f9) (call $f9) (call $f9))
  (func $f20 (call $f10) (call $f10) (call $f10) (call $f10) (call $f10) (call $f10) (call $f10) (call $f10))
  (func $f30 (call $f20) (call $f20) (call $f20) (call $f20) (call $f20) (call $f20) (call $f20) (call $f20))

  (func $answer (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))

  (func (export "edged_v1_merge") (param $ptr i32) (param $len i32) (result i64)
    (local $op i32) (local $i i32)
    (local.set $op (i32.load8_u (local.get $ptr)))
    (if (i32.eq (local.get $op) (i32.const 101)) (then (return (call $answer (local.get $ptr) (local.get $len))))) ;; e: echo
    (if (i32.eq (local.get $op) (i32.const 108)) (then (loop $l (br $l)))) ;; l: loop
    (if (i32.eq (local.get $op) (i32.const 116)) (then unreachable)) ;; t: trap
    (if (i32.eq (local.get $op) (i32.const 114)) (then (drop (call $deep (i32.const 0))))) ;; r: recursion
    (if (i32.eq (local.get $op) (i32.const 99)) (then (call $f30))) ;; c: calls without a loop
    (if (i32.eq (local.get $op) (i32.const 109)) ;; m: memory bomb
      (then (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))
    (if (i32.eq (local.get $op) (i32.const 77)) ;; M: a request for more than there may be, reported as an error
      (then (drop (memory.grow (i32.const 260))) (return (i64.const 3))))
    (if (i32.eq (local.get $op) (i32.const 103)) ;; g: grow by a page and go on
      (then (drop (memory.grow (i32.const 1))) (return (call $answer (local.get $ptr) (local.get $len)))))
    (if (i32.eq (local.get $op) (i32.const 111)) (then (drop (i64.load (i32.const -8))))) ;; o: out of bounds
    (if (i32.eq (local.get $op) (i32.const 100)) (then (drop (i32.div_u (i32.const 1) (i32.sub (local.get $op) (i32.const 100)))))) ;; d: division by zero
    (if (i32.eq (local.get $op) (i32.const 97)) (then (call $abort (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))) ;; a: abort
    (if (i32.eq (local.get $op) (i32.const 112)) (then (return (i64.const 0xffffff00000000ff)))) ;; p: bad pointer
    (if (i32.eq (local.get $op) (i32.const 69)) (then (return (i64.const 42)))) ;; E: an error code
    (if (i32.eq (local.get $op) (i32.const 120)) (then (return (call $answer (i32.const 64) (i32.const 65536))))) ;; x: a long answer
    (if (i32.eq (local.get $op) (i32.const 102)) ;; f: bulk fills
      (then (loop $l (memory.fill (i32.const 4096) (i32.const 1) (i32.const 65536)) (br $l))))
    (if (i32.eq (local.get $op) (i32.const 115)) ;; s: state in a global and in memory
      (then
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
        (i32.store (i32.const 68) (global.get $count))
        (return (call $answer (i32.const 64) (i32.const 8)))))
    (if (i32.eq (local.get $op) (i32.const 110)) ;; n: NaNs
      (then
        (f64.store (i32.const 64) (f64.div (f64.convert_i32_u (i32.sub (local.get $op) (i32.const 110))) (f64.const 0)))
        (f32.store (i32.const 72) (f32.sqrt (f32.convert_i32_s (i32.sub (i32.const 100) (local.get $op)))))
        (return (call $answer (i32.const 64) (i32.const 12)))))
    (if (i32.eq (local.get $op) (i32.const 76)) ;; L: many long log lines
      (then
        (loop $l
          (call $log (i32.const 0) (local.get $ptr) (local.get $len))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const 20))))
        (return (call $answer (local.get $ptr) (i32.const 1)))))
    (if (i32.eq (local.get $op) (i32.const 119)) ;; w: the constant system interface
      (then
        (i32.store (i32.const 32) (i32.const 256)) (i32.store (i32.const 36) (i32.const 11))
        (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 80)))
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))
        (drop (call $random (i32.const 72) (i32.const 8)))
        (return (call $answer (i32.const 64) (i32.const 20)))))
    (if (i32.eq (local.get $op) (i32.const 82)) ;; R: host work in a loop
      (then (loop $l (drop (call $random (i32.const 4096) (i32.const 65536))) (br $l))))
    (i64.const 1)))
