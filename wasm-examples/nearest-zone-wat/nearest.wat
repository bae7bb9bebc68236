;; Nearest zone first: what a peer of this node's own zone has is fetched from
;; there; else a near link goes before a far one. See ../edged.h for the frames.
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

  ;; How near the replica at $peer is to this node, the one at $self: 3 the same
  ;; zone, 2 a link below 20 ms, 1 anything else.
  (func $nearness (param $self i32) (param $peer i32) (result i32)
    (local $link i32)
    (if (i32.and
          (i32.ne (i32.const 0) (i32.load16_u offset=24 (local.get $self)))
          (i32.eq (i32.load16_u offset=24 (local.get $self)) (i32.load16_u offset=24 (local.get $peer))))
      (then (return (i32.const 3))))
    (local.set $link (i32.load16_u offset=28 (local.get $peer)))
    (select (i32.const 2) (i32.const 1)
      (i32.or (i32.eq (local.get $link) (i32.const 1)) (i32.eq (local.get $link) (i32.const 2)))))

  (func (export "edged_v1_repair") (param $request i32) (param $length i32) (result i64)
    (local $count i32) (local $i i32) (local $range i32) (local $peers i32) (local $out i32) (local $step i32)
    (if (i32.ne (i32.load (local.get $request)) (i32.const 0x31514445)) (then (return (i64.const 1))))
    (local.set $count (select (i32.load offset=8 (local.get $request)) (i32.load offset=40 (local.get $request))
      (i32.lt_u (i32.load offset=8 (local.get $request)) (i32.load offset=40 (local.get $request)))))
    (local.set $range (i32.add (local.get $request) (i32.load offset=12 (local.get $request))))
    (local.set $peers (i32.add (local.get $request) (i32.load offset=20 (local.get $request))))
    (local.set $out (i32.and (i32.add (i32.add (local.get $request) (local.get $length)) (i32.const 15)) (i32.const -16)))
    (local.set $step (i32.add (local.get $out) (i32.const 16)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
        (memory.fill (local.get $step) (i32.const 0) (i32.const 32))
        (i32.store (local.get $step) (local.get $i))
        (i32.store8 offset=4 (local.get $step) (i32.const 2)) ;; sync
        (i32.store16 offset=6 (local.get $step) ;; priority
          (call $nearness (local.get $peers)
            (i32.add (local.get $peers) (i32.shl (i32.load offset=8 (local.get $range)) (i32.const 5)))))
        (local.set $step (i32.add (local.get $step) (i32.const 32)))
        (local.set $range (i32.add (local.get $range) (i32.const 64)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $out) (i32.const 0x31504445))
    (i32.store offset=4 (local.get $out) (i32.sub (local.get $step) (local.get $out)))
    (i32.store offset=8 (local.get $out) (local.get $count))
    (i32.store offset=12 (local.get $out) (i32.const 0))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $out)) (i64.const 32))
            (i64.extend_i32_u (i32.sub (local.get $step) (local.get $out))))))
