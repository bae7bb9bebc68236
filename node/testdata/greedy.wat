;; A repair policy that answers an empty plan at the time that an upload is tried
;; with, and at any other asks for what it may not.
(module
  (memory (export "memory") 2)
  (data (i32.const 64) "EDP1\10\00\00\00\00\00\00\00\00\00\00\00")
  (data (i32.const 96) "EDP1\b0\00\00\00\05\00\00\00\00\00\00\00")
  ;; range, strategy 2 (sync), direction, priority, rate, delay
  (data (i32.const 112) "\00\00\00\00\02\00\09\00\ff\ff\ff\ff\00\00\00\00") ;; as fast as no machine is
  (data (i32.const 144) "\00\00\00\00\02\00\00\00\00\00\00\00\00\00\00\00") ;; the same range again
  (data (i32.const 176) "\fe\ff\ff\ff\02\00\00\00\00\00\00\00\00\00\00\00") ;; a range that there is not
  (data (i32.const 208) "\01\00\00\00\02\02\00\00\00\00\00\00\00\00\00\00") ;; to push
  (data (i32.const 240) "\02\00\00\00\02\00\08\00\01\00\00\00\00\00\00\00") ;; slower than may be
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
      (then (return (i64.const 0x60000000b0))))
    (i64.const 0x4000000010)))
