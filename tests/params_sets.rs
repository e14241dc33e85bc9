//! Many sets of parameters are what the single ones are.

use std::borrow::Cow;
use std::sync::Arc;

use proptest::prelude::*;
use strongroom::engine::{Dialect, Params, Placeholders};
use strongroom::values::ValueRef;
use strongroom::values::{IntoParams, Null, ParamSets};
use strongroom::{ErrorKind, Reason, Value, params};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        (-1e9..1e9_f64).prop_map(Value::Real),
        ".{0,9}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::Blob),
    ]
}

/// Parameters for `:a`, `:b` and `:c`, in any order.
fn named() -> impl Strategy<Value = Params> {
    let pairs = prop::collection::vec(value(), 3).prop_map(|values| {
        let names = ["a", "b", "c"].map(Cow::Borrowed);
        names.into_iter().zip(values).collect::<Vec<_>>()
    });
    pairs.prop_shuffle().prop_map(Params::Named)
}

fn any_params() -> impl Strategy<Value = Params> {
    let positional = prop::collection::vec(value(), 1..4).prop_map(Params::Positional);
    prop_oneof![Just(Params::None), positional, named()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn sets_of_any_shape_come_out_as_they_went_in(given in prop::collection::vec(any_params(), 0..20)) {
        let sets: ParamSets = given.iter().cloned().collect();
        prop_assert_eq!(sets.len(), given.len());
        prop_assert_eq!(sets.iter().collect::<Vec<_>>(), given);
    }

    #[test]
    fn names_in_any_order_find_their_placeholders(given in prop::collection::vec(named(), 0..20)) {
        let found = Placeholders::scan("SELECT :c, :a, :b, :a", Dialect::Sqlite).unwrap();
        let sets: ParamSets = given.iter().cloned().collect();
        let all = found.look_up_all(&sets).unwrap();
        prop_assert_eq!(all.iter().count(), given.len());
        for (one, of_many) in given.iter().zip(all.iter()) {
            let one = found.look_up(one).unwrap();
            for index in 0..found.count() {
                prop_assert_eq!(one.get(index), of_many.get(index));
            }
        }
    }

    #[test]
    fn the_first_set_that_does_not_fit_is_named(before in 0..9_usize, after in 0..9_usize, wrong in any_params()) {
        prop_assume!(wrong.len() != 2 || matches!(wrong, Params::Named(_)));
        let found = Placeholders::scan("SELECT $1, $2", Dialect::Sqlite).unwrap();
        let fits = || Params::Positional(vec![Value::Integer(1), Value::Null]);
        let given = std::iter::repeat_with(fits).take(before).chain([wrong]);
        let sets: ParamSets = given.chain(std::iter::repeat_with(fits).take(after)).collect();
        let error = found.look_up_all(&sets).unwrap_err();
        prop_assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Parameters));
        prop_assert!(error.to_string().contains(&format!("set {} of parameters", before + 1)), "{}", error);
    }
}

/// Both ways into a set give the same.
fn appended(params: impl IntoParams + Clone) {
    let (mut sets, mut others) = (ParamSets::new(), ParamSets::new());
    for _ in 0..2 {
        params.clone().append_to(&mut sets).unwrap();
        others.push(&params.clone().into_params().unwrap());
    }
    assert_eq!(sets.iter().collect::<Vec<_>>(), others.iter().collect::<Vec<_>>());
}

#[test]
fn whatever_can_be_bound_can_be_appended() {
    let text: Arc<str> = "shared".into();
    appended(());
    appended((true, 1_u8, 2.5_f32, "text", String::from("owned"), 'c', Null));
    appended((None::<&str>, Some("text"), &"twice", &String::from("lent"), Cow::Borrowed("cow")));
    appended((&*text, Arc::clone(&text), ValueRef::Text("ref"), Value::Text("value".into())));
    appended((&[1_u8, 2][..], vec![3_u8], [4_u8; 2], Arc::<[u8]>::from([5_u8]), Cow::Borrowed(&[6_u8][..])));
    appended(["a", "b"]);
    appended(&["a", "b"]);
    appended(vec![Some(1), None]);
    appended(&vec!["a", "b"]);
    appended([("a", 1), ("b", 2)]);
    appended(params![1, "a", Null].unwrap());
}

#[test]
fn a_set_with_a_value_that_does_not_fit_leaves_the_others_as_they_were() {
    let mut sets = ParamSets::new();
    (1, "one").append_to(&mut sets).unwrap();
    for _ in 0..2 {
        assert_eq!((2, "two", u64::MAX).append_to(&mut sets).unwrap_err().reason(), Reason::Type);
        assert_eq!([u64::MAX].append_to(&mut sets).unwrap_err().reason(), Reason::Type);
    }
    (3, "three").append_to(&mut sets).unwrap();
    let expected = [(1, "one").into_params().unwrap(), (3, "three").into_params().unwrap()];
    assert_eq!(sets.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn values_do_not_show() {
    let sets: ParamSets = [Params::Positional(vec![Value::Text("secret".into())])].into_iter().collect();
    assert_eq!(format!("{sets:?}"), "ParamSets(1)");
}
