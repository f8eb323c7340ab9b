use bytes::Bytes;
use proptest::prelude::*;
use strait::codec::json::{self, Member};
use strait::codec::splice::Edits;

use super::text::{self, Ordered};

fn members(body: &[u8]) -> Vec<Member> {
    let mut members = Vec::new();
    json::members(body, usize::MAX, &mut members).unwrap();
    members
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(prop::sample::Index, String),
    Rename(prop::sample::Index, String),
    Remove(prop::sample::Index),
    Insert(String, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => (any::<prop::sample::Index>(), text::value()).prop_map(|(at, value)| Edit::Replace(at, value)),
        1 => (any::<prop::sample::Index>(), "[a-z]{0,6}").prop_map(|(at, key)| Edit::Rename(at, key)),
        3 => any::<prop::sample::Index>().prop_map(Edit::Remove),
        1 => (any::<String>(), text::value()).prop_map(|(key, value)| Edit::Insert(key, value)),
    ]
}

/// Does the same to an ordered map.
fn expected(body: &str, edits: &[Edit]) -> Ordered {
    let mut members: Vec<Option<(String, String)>> = text::reference(body.as_bytes())
        .unwrap()
        .0
        .into_iter()
        .map(Some)
        .collect();
    let count = members.len();
    let mut end = Vec::new();
    let mut gone = vec![false; count];
    for edit in edits {
        match edit {
            Edit::Insert(key, value) => end.push(Some((key.clone(), value.clone()))),
            _ if count == 0 => {}
            Edit::Replace(at, value) => members[at.index(count)]
                .as_mut()
                .unwrap()
                .1
                .clone_from(value),
            Edit::Rename(at, key) => members[at.index(count)].as_mut().unwrap().0.clone_from(key),
            Edit::Remove(at) => gone[at.index(count)] = true,
        }
    }
    for (member, gone) in members.iter_mut().zip(gone) {
        if gone {
            *member = None;
        }
    }
    Ordered(members.into_iter().chain(end).flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_do_what_the_same_edits_do_to_an_ordered_map(body in text::object(), edits in prop::collection::vec(edit(), 0..6)) {
        let bytes = Bytes::from(body.clone());
        let members = members(&bytes);
        let mut splice = Edits::new();
        for edit in &edits {
            match edit {
                Edit::Insert(key, value) => splice.insert_member(&bytes, key, value.as_bytes()),
                _ if members.is_empty() => {}
                Edit::Replace(at, value) => splice.replace(members[at.index(members.len())].value.clone(), value.clone().into_bytes()),
                Edit::Rename(at, key) => splice.replace(members[at.index(members.len())].key.clone(), key.clone().into_bytes()),
                Edit::Remove(at) => splice.remove_member(&bytes, &members, at.index(members.len())),
            }
        }
        let done = splice.apply(&bytes);
        let found = text::reference(&done);
        prop_assert_eq!(found, Some(expected(&body, &edits)), "{}", String::from_utf8_lossy(&done));
    }

    #[test]
    fn what_is_not_edited_stays_byte_for_byte(body in text::object(), at in any::<prop::sample::Index>(), value in text::value()) {
        let bytes = Bytes::from(body);
        let members = members(&bytes);
        prop_assume!(!members.is_empty());
        let range = members[at.index(members.len())].value.clone();
        let mut edits = Edits::new();
        edits.replace(range.clone(), value.as_bytes());
        let done = edits.apply(&bytes);
        prop_assert_eq!(&done[..range.start], &bytes[..range.start]);
        prop_assert_eq!(&done[range.start..range.start + value.len()], value.as_bytes());
        prop_assert_eq!(&done[range.start + value.len()..], &bytes[range.end..]);
    }
}

#[test]
fn no_edit_is_no_copy() {
    let body = Bytes::from_static(b"{\"a\":1}");
    let edits = Edits::new();
    assert!(edits.is_empty());
    assert_eq!(edits.apply(&body).as_ptr(), body.as_ptr());
}

#[test]
fn every_choice_of_members_can_be_removed_with_and_without_a_new_one() {
    for body in [
        "{}",
        "{ }",
        "{\"a\":1}",
        "{ \"a\" : 1 , \"b\" : [2] }",
        "{\"a\":{},\"b\":\"{\",\"c\":3,\"d\":null} ",
    ] {
        let bytes = Bytes::from(body);
        let members = members(&bytes);
        for chosen in 0..1u32 << members.len() {
            for insert in [false, true] {
                let mut edits = Edits::new();
                // From the last to the first: the order of edits doesn't matter.
                for index in (0..members.len())
                    .rev()
                    .filter(|index| chosen >> index & 1 == 1)
                {
                    edits.remove_member(&bytes, &members, index);
                    edits.remove_member(&bytes, &members, index);
                }
                if insert {
                    edits.insert_member(&bytes, "new", b"true");
                }
                let done = edits.apply(&bytes);
                let mut expected: Vec<(String, String)> = text::reference(body.as_bytes())
                    .unwrap()
                    .0
                    .into_iter()
                    .enumerate()
                    .filter(|(index, _)| chosen >> index & 1 == 0)
                    .map(|(_, member)| member)
                    .collect();
                if insert {
                    expected.push(("new".to_owned(), "true".to_owned()));
                }
                assert_eq!(
                    text::reference(&done),
                    Some(Ordered(expected)),
                    "{body} {chosen:b} → {done:?}"
                );
            }
        }
    }
}

#[test]
fn edits_that_make_no_sense_do_nothing() {
    let body = Bytes::from_static(b"{\"a\":1}");
    let members = members(&body);
    let mut edits = Edits::new();
    edits.remove_member(&body, &members, 7);
    edits.replace(3..900, &b"x"[..]);
    assert_eq!(edits.apply(&body), body);
    let array = Bytes::from_static(b"[1]");
    let mut edits = Edits::new();
    edits.insert_member(&array, "a", b"1");
    assert_eq!(edits.apply(&array), array);
}

#[test]
fn many_removals_take_no_more_than_their_share() {
    let body = Bytes::from(format!("{{\"a\":1{}}}", ",\"b\":2".repeat(200_000)));
    let members = members(&body);
    let mut edits = Edits::new();
    for index in (0..members.len()).step_by(2) {
        edits.remove_member(&body, &members, index);
    }
    assert_eq!(
        text::reference(&edits.apply(&body)).unwrap().0.len(),
        100_000
    );
}
