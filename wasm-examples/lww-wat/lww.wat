;; Last writer wins: shows the sibling with the highest (hlc, actor, counter).
;;
;; The host sorts siblings newest first, so sibling 0 would do; this policy compares
;; all the same, as it is here to show the frames. See ../edged.h for their layout.
(module
  (memory (export "memory") 2)

  ;; The request buffer begins at 16; behind it there must be room for an answer,
  ;; which is shorter than its request.
  (func (export "edged_v1_alloc") (param $size i32) (result i32)
    (local $end i32) (local $have i32)
    (local.set $end (i32.add (i32.const 32) (i32.shl (local.get $size) (i32.const 1))))
    (local.set $have (i32.shl (memory.size) (i32.const 16)))
    (if (i32.gt_u (local.get $end) (local.get $have))
      (then
        (if (i32.eq (i32.const -1)
              (memory.grow (i32.shr_u (i32.add (i32.sub (local.get $end) (local.get $have)) (i32.const 65535)) (i32.const 16))))
          (then (return (i32.const 0))))))
    (i32.const 16))

  ;; Whether the sibling record at $a is newer than that at $b.
  (func $newer (param $a i32) (param $b i32) (result i32)
    (if (i64.ne (i64.load offset=8 (local.get $a)) (i64.load offset=8 (local.get $b)))
      (then (return (i64.gt_u (i64.load offset=8 (local.get $a)) (i64.load offset=8 (local.get $b))))))
    (if (i64.ne (i64.load offset=16 (local.get $a)) (i64.load offset=16 (local.get $b)))
      (then (return (i64.gt_u (i64.load offset=16 (local.get $a)) (i64.load offset=16 (local.get $b))))))
    (i64.gt_u (i64.load offset=24 (local.get $a)) (i64.load offset=24 (local.get $b))))

  ;; The index of the newest sibling of the conflict record at $conflict.
  (func $newest (param $request i32) (param $conflict i32) (result i32)
    (local $first i32) (local $s i32) (local $best i32) (local $end i32)
    (local.set $first (i32.add (local.get $request) (i32.load offset=8 (local.get $conflict))))
    (local.set $end (i32.add (local.get $first) (i32.mul (i32.const 48) (i32.load16_u offset=12 (local.get $conflict)))))
    (local.set $best (local.get $first))
    (local.set $s (i32.add (local.get $first) (i32.const 48)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $s) (local.get $end)))
        (if (call $newer (local.get $s) (local.get $best)) (then (local.set $best (local.get $s))))
        (local.set $s (i32.add (local.get $s) (i32.const 48)))
        (br $next)))
    (i32.div_u (i32.sub (local.get $best) (local.get $first)) (i32.const 48)))

  (func (export "edged_v1_merge") (param $request i32) (param $length i32) (result i64)
    (local $count i32) (local $i i32) (local $conflict i32) (local $out i32) (local $verdict i32)
    (if (i32.ne (i32.load (local.get $request)) (i32.const 0x314D4445)) (then (return (i64.const 1))))
    (local.set $count (i32.load offset=8 (local.get $request)))
    (local.set $conflict (i32.add (local.get $request) (i32.load offset=12 (local.get $request))))
    (local.set $out (i32.and (i32.add (i32.add (local.get $request) (local.get $length)) (i32.const 15)) (i32.const -16)))
    (local.set $verdict (i32.add (local.get $out) (i32.const 16)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
        (i64.store (local.get $verdict) (i64.const 0)) ;; kind 0: pick
        (i64.store offset=8 (local.get $verdict) (i64.const 0))
        (i32.store16 offset=2 (local.get $verdict) (call $newest (local.get $request) (local.get $conflict)))
        (local.set $verdict (i32.add (local.get $verdict) (i32.const 16)))
        (local.set $conflict (i32.add (local.get $conflict) (i32.const 24)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $out) (i32.const 0x31524445))
    (i32.store offset=4 (local.get $out) (i32.sub (local.get $verdict) (local.get $out)))
    (i32.store offset=8 (local.get $out) (local.get $count))
    (i32.store offset=12 (local.get $out) (i32.const 0))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $out)) (i64.const 32))
            (i64.extend_i32_u (i32.sub (local.get $verdict) (local.get $out))))))
