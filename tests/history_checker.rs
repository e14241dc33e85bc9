//! The checker of serializability that other tests rely on: it finds each anomaly that has a name, and nothing where
//! there is none.

#[path = "common/histories.rs"]
mod histories;

use histories::Kind::{Fork, G0, G1a, G1b, G1c, G2, GSingle, Garbage, Internal};
use histories::Op::{Append as A, Read};
use histories::Outcome::{Aborted, Committed, Unknown};
use histories::{Kind, Op, Order, Outcome, Transaction, check};

const X: u64 = 1;
const Y: u64 = 2;

#[allow(non_snake_case, reason = "beside `A`")]
fn R(key: u64, list: &[u64]) -> Op {
    Read(key, list.to_vec())
}

/// At one time with all others.
fn tx(ops: &[Op]) -> Transaction {
    Transaction { begun: 0, ended: 100, ops: ops.to_vec(), outcome: Committed }
}

fn at(begun: u64, ended: u64, ops: &[Op]) -> Transaction {
    Transaction { begun, ended, ..tx(ops) }
}

fn told(outcome: Outcome, ops: &[Op]) -> Transaction {
    Transaction { outcome, ..tx(ops) }
}

/// What is found; true: only by the order of time.
fn found(history: &[Transaction]) -> Option<(Kind, bool)> {
    check(history, Order::RealTime).err().map(|anomaly| (anomaly.kind, anomaly.in_time))
}

#[test]
fn what_has_an_order_is_left_alone() {
    let fine = [
        at(0, 1, &[A(X, 1), A(Y, 2), R(X, &[1])]),
        at(2, 3, &[R(X, &[1]), A(X, 3), R(X, &[1, 3]), A(X, 4)]),
        // At one time with the next, and behind it.
        at(4, 9, &[R(X, &[1, 3, 4, 5]), R(Y, &[2])]),
        at(5, 8, &[R(Y, &[2]), A(X, 5)]),
        at(10, 11, &[R(X, &[1, 3, 4, 5]), R(Y, &[2]), R(7, &[])]),
    ];
    assert_eq!(found(&fine), None);
    assert_eq!(check(&fine, Order::RealTime).unwrap().committed, 5);
    assert!(check(&fine, Order::RealTime).unwrap().edges > 8);
}

#[test]
fn what_one_transaction_sees_by_itself_is_judged() {
    assert_eq!(found(&[tx(&[A(X, 1), R(X, &[])])]), Some((Internal, false)), "not its own write");
    let moves = [tx(&[A(X, 1)]), tx(&[R(X, &[]), R(X, &[1])])];
    assert_eq!(found(&moves), Some((Internal, false)), "its view moves");
    assert_eq!(found(&[tx(&[R(X, &[9])])]), Some((Garbage, false)), "nobody wrote it");
    assert_eq!(found(&[tx(&[A(X, 1)]), tx(&[R(X, &[1, 1])])]), Some((Garbage, false)), "done twice");
    let undone = [told(Aborted, &[A(X, 1)]), tx(&[R(X, &[1])])];
    assert_eq!(found(&undone), Some((G1a, false)));
    assert_eq!(found(&[tx(&[A(X, 1), A(X, 2)]), tx(&[R(X, &[1])])]), Some((G1b, false)));
    let fork = [tx(&[A(X, 1)]), tx(&[A(X, 2)]), tx(&[R(X, &[1])]), tx(&[R(X, &[2])])];
    assert_eq!(found(&fork), Some((Fork, false)));
}

#[test]
fn each_cycle_has_its_name() {
    let dirty_write = [tx(&[A(X, 1), A(Y, 2)]), tx(&[A(X, 3), A(Y, 4)]), tx(&[R(X, &[1, 3]), R(Y, &[4, 2])])];
    assert_eq!(found(&dirty_write), Some((G0, false)));
    let circular = [tx(&[A(X, 1), R(Y, &[2])]), tx(&[A(Y, 2), R(X, &[1])])];
    assert_eq!(found(&circular), Some((G1c, false)));
    let lost_update = [tx(&[R(X, &[]), A(X, 1)]), tx(&[R(X, &[]), A(X, 2)]), tx(&[R(X, &[1, 2])])];
    assert_eq!(found(&lost_update), Some((GSingle, false)));
    let torn_read = [tx(&[A(X, 1), A(Y, 2)]), tx(&[R(X, &[1]), R(Y, &[])])];
    assert_eq!(found(&torn_read), Some((GSingle, false)));
    let write_skew = [tx(&[R(X, &[]), A(Y, 1)]), tx(&[R(Y, &[]), A(X, 2)]), tx(&[R(X, &[2]), R(Y, &[1])])];
    assert_eq!(found(&write_skew), Some((G2, false)));
    // Two readers that saw two writes in different orders.
    let long_fork = [
        tx(&[A(X, 1)]),
        tx(&[A(Y, 2)]),
        tx(&[R(X, &[1]), R(Y, &[])]),
        tx(&[R(X, &[]), R(Y, &[2])]),
        tx(&[R(X, &[1]), R(Y, &[2])]),
    ];
    assert_eq!(found(&long_fork), Some((G2, false)));
}

#[test]
fn nobody_sees_the_past() {
    let stale = [at(0, 1, &[A(X, 1)]), at(2, 3, &[R(X, &[])]), at(4, 5, &[R(X, &[1])])];
    assert_eq!(found(&stale), Some((GSingle, true)));
    let swapped = [at(0, 1, &[A(X, 1)]), at(2, 3, &[A(X, 2)]), at(4, 5, &[R(X, &[2, 1])])];
    assert_eq!(found(&swapped), Some((G0, true)));
    // Behind something that came long before.
    let far = [at(0, 1, &[A(X, 1)]), at(2, 3, &[A(Y, 2)]), at(4, 5, &[R(Y, &[2])]), at(6, 7, &[R(X, &[])])];
    assert_eq!(found(&far), Some((GSingle, true)));
    for past in [stale, swapped] {
        assert!(check(&past, Order::LastReading).is_ok(), "an order by itself it has");
    }
}

#[test]
fn what_was_acknowledged_is_in_the_last_reading_by_either_order() {
    let lost = [at(0, 1, &[A(X, 1)]), at(0, 1, &[A(X, 2)]), at(2, 3, &[R(X, &[2])])];
    for order in [Order::RealTime, Order::LastReading] {
        let anomaly = check(&lost, order).unwrap_err();
        assert_eq!((anomaly.kind, anomaly.in_time), (GSingle, true), "{order:?}");
    }
    let unknown = [told(Unknown, &[A(X, 1)]), at(200, 300, &[R(X, &[])])];
    assert_eq!(found(&unknown), None, "nobody was told");
}

#[test]
fn what_nobody_knows_of_counts_once_it_was_seen() {
    let torn = [told(Unknown, &[A(X, 1), A(Y, 2)]), tx(&[R(X, &[1]), R(Y, &[])])];
    assert_eq!(found(&torn), Some((GSingle, false)));
    // It may happen long after its caller was told so.
    let late = [Transaction { ended: 1, ..told(Unknown, &[A(X, 1)]) }, at(2, 3, &[R(X, &[])]), at(4, 5, &[R(X, &[1])])];
    assert_eq!(found(&late), None);
    let gone_again = [told(Unknown, &[A(X, 1)]), at(2, 3, &[R(X, &[1])]), at(4, 5, &[R(X, &[])])];
    assert_eq!(found(&gone_again), Some((GSingle, true)));
}
