//! Components gone wrong: one that asks for something, one that loops, recurses, grows or traps. Built here
//! from text, because nobody should have to believe that the shipped one would misbehave.
#![allow(clippy::unwrap_used)]

use gloaming_edge::{Guests, HostLimits, WasmGuest, WasmGuestError};
use gloaming_window::{Guest as _, GuestError};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../worker/wit/worker.wit");

/// Folds by the first byte of the batch: 0 traps, 1 loops, 2 recurses, 3 grows memory for ever; anything
/// else answers with the number of policies configured in this instance.
const WRONG: &str = r#"(module
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (global $configured (mut i32) (i32.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get 3)))
    (local.get $at))
  ;; ok(list): the tag at 8, address and length behind it
  (func $ok (param $at i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 8) (i32.const 0))
    (i32.store (i32.const 12) (local.get $at))
    (i32.store (i32.const 16) (local.get $len))
    (i32.const 8))
  (func $deeper (param i32) (result i32)
    (i32.add (i32.const 1) (call $deeper (i32.add (local.get 0) (i32.const 1)))))
  (func (export "gloaming:edge/worker@0.1.0#configure") (param i32 i32) (result i32)
    (global.set $configured (i32.add (global.get $configured) (i32.const 1)))
    (call $ok (i32.const 1024) (i32.const 32)))
  (func (export "gloaming:edge/worker@0.1.0#fold") (param $hash i32) (param i32 i64) (param $batch i32) (param i32) (result i32)
    (local $first i32)
    (local.set $first (i32.load8_u (local.get $batch)))
    (if (i32.eq (local.get $first) (i32.const 0)) (then unreachable))
    (if (i32.eq (local.get $first) (i32.const 1)) (then (loop $again (br $again))))
    (if (i32.eq (local.get $first) (i32.const 2)) (then (drop (call $deeper (i32.const 0)))))
    (if (i32.eq (local.get $first) (i32.const 3)) (then (loop $again (drop (memory.grow (i32.const 64))) (br $again))))
    (i32.store8 (i32.const 4) (global.get $configured))
    (call $ok (i32.const 4) (i32.const 1)))
  (func (export "gloaming:edge/worker@0.1.0#release") (param i32 i32 i32 i32 i64 i64 i32 i32) (result i32)
    unreachable))"#;

fn component(wit: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("worker.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("edge-worker")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Small enough that a loop is not waited for long.
const LIMITS: HostLimits = HostLimits { memory: 8 << 20, fold_ms: 50, release_ms: 50 };

#[test]
fn whatever_a_guest_does_costs_one_call_and_the_next_is_served() {
    let component = component(WIT, WRONG);
    let mut guest = WasmGuest::new(&component, LIMITS).unwrap();
    guest.configure(b"a policy").unwrap();
    assert_eq!(guest.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
    for (way, words) in [(0, "unreachable"), (1, "interrupt"), (2, "call stack exhausted"), (3, "memory")] {
        let Err(GuestError::Trap(said)) = guest.fold(&[0; 32], 0, &[way]) else { panic!("way {way} did not trap") };
        assert!(said.contains(words), "{way}: {said}");
        // The replacement knows the policy again, and serves.
        assert_eq!(guest.fold(&[0; 32], 0, &[9]).unwrap(), [1], "after way {way}");
        assert_eq!(guest.counts().1, u64::from(way) + 1);
    }
    assert!(matches!(guest.release(&[0; 32], &[0; 32], 1, 1, &[]), Err(GuestError::Trap(_))));
    assert_eq!(guest.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
}

#[test]
fn a_component_that_imports_anything_is_not_loaded() {
    let wit = WIT.replace("world edge-worker {", "world edge-worker {\n  import now: func() -> u64;");
    assert_ne!(wit, WIT);
    let module = WRONG.replace("(module", "(module\n  (import \"$root\" \"now\" (func $now (result i64)))");
    let refused = WasmGuest::new(&component(&wit, &module), LIMITS).err().unwrap();
    assert!(matches!(&refused, WasmGuestError::Imports(name) if name == "now"), "{refused}");
    assert!(refused.to_string().contains("must import nothing"));
}

#[test]
fn other_bytes_are_not_taken_for_a_component() {
    let core = wat::parse_str("(module)").unwrap();
    for bytes in [&b"hello"[..], &core, &[]] {
        assert!(matches!(WasmGuest::new(bytes, LIMITS), Err(WasmGuestError::NotOurs(_))));
    }
    let empty = wat::parse_str("(component)").unwrap();
    assert!(matches!(WasmGuest::new(&empty, LIMITS), Err(WasmGuestError::NotOurs(_))));
}

/// A new version runs beside the old one: where it differs is counted, what it breaks harms nobody, and it serves when
/// it is told to, with the policies that are in force.
#[test]
fn the_next_component_is_compared_and_not_believed() {
    let live = component(WIT, WRONG);
    let other = component(
        WIT,
        &WRONG.replace("(call $ok (i32.const 4) (i32.const 1))", "(call $ok (i32.const 1024) (i32.const 1))"),
    );
    let mut guests = Guests::new(&live).unwrap();
    guests.configure(b"a policy").unwrap();
    guests.set(&live, Some(&live)).unwrap();
    assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
    assert_eq!(compared(&guests, 1), (1, 0), "the same component answers the same");

    guests.set(&live, Some(&other)).unwrap();
    assert_eq!(guests.compared(), (0, 0, 0), "another one is compared anew");
    assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [1], "it is not believed");
    assert_eq!(compared(&guests, 1), (1, 1));
    // Both trap: that is no difference.
    assert!(guests.fold(&[0; 32], 0, &[0]).is_err());
    assert_eq!(compared(&guests, 2), (2, 1));

    // Told to serve, it does, and knows the policy; and back again.
    guests.set(&other, None).unwrap();
    assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [0]);
    guests.set(&live, None).unwrap();
    assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
    assert_eq!(guests.counts().1, 1, "replacements of all that served");

    // What is no component changes nothing, wherever it was to run.
    assert!(matches!(guests.set(&live, Some(b"no component")), Err(WasmGuestError::NotOurs(_))));
    assert!(matches!(guests.set(b"no component", Some(&other)), Err(WasmGuestError::NotOurs(_))));
    assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
    assert_eq!(guests.compared(), (0, 0, 0));

    // Nobody waits for one that loops: it is not given more than it can bear, and given up after a while.
    let loops = component(
        WIT,
        &WRONG
            .replace("(if (i32.eq (local.get $first) (i32.const 0)) (then unreachable))", "(loop $again (br $again))"),
    );
    guests.set(&live, Some(&loops)).unwrap();
    for _ in 0..1_000 {
        assert_eq!(guests.fold(&[0; 32], 0, &[9]).unwrap(), [1]);
    }
    let (compared, _, skipped) = guests.compared();
    assert!(compared < 10 && skipped > 900, "{compared} {skipped}");
    while guests.compared().0 < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for _ in 0..1_000 {
        guests.fold(&[0; 32], 0, &[9]).unwrap();
    }
    assert_eq!(guests.compared(), (10, 10, skipped));
}

/// Calls compared and those that differ, once there are so many.
fn compared(guests: &Guests, calls: u64) -> (u64, u64) {
    while guests.compared().0 < calls {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let (compared, differing, skipped) = guests.compared();
    assert_eq!(skipped, 0);
    (compared, differing)
}
