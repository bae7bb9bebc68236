;; A repair policy that answers an empty plan at the time that an upload is tried
;; with, and at any other loops for ever.
(module
  (memory (export "memory") 2)
  (data (i32.const 64) "EDP1\10\00\00\00\00\00\00\00\00\00\00\00")
  (func (export "edged_v1_alloc") (param $n i32) (result i32)
    (local $end i32)
    (local.set $end (i32.add (i32.const 4096) (local.get $n)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1)
                  (memory.grow (i32.add (i32.const 1) (i32.shr_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 16)))))
              (then (return (i32.const 0))))))
    (i32.const 4096))
  (func (export "edged_v1_repair") (param $ptr i32) (param $len i32) (result i64)
    (if (i64.ne (i64.load offset=56 (local.get $ptr)) (i64.const 1700000000))
      (then (loop $l (br $l))))
    (i64.const 0x4000000010)))
