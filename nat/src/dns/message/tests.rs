use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// A of "www.Example", recursion desired, with an OPT record: 1,232 octets, DO.
const EDNS: &[u8] =
    b"\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07Example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

#[test]
fn rfc1035_4_1_a_question_is_read_in_lower_case() {
    let question = Question::of_query(EDNS).unwrap();
    assert_eq!((question.id, question.kind, question.class, question.end), (0x1234, kind::A, IN, 29));
    assert_eq!(question.name.octets(), b"\x03www\x07example\x00");
    assert_eq!(question.edns, Ok(Some(Edns { size: 1_232, version: 0, dnssec: true, subnet: false })));
    assert_eq!((question.name.labels(), question.name.label(1), question.name.label(2)), (2, Some(&b"example"[..]), None));
    assert_eq!(question.name.text(0..2, &mut [0; NAME]), Some("www.example"));
    assert!(question.name.ends_with(&["example"]) && !question.name.ends_with(&["www"]));
    let mut response = EDNS.to_vec();
    response[2] |= RESPONSE;
    assert!(Question::of_query(&response).is_none() && Question::read(&response).is_some());
}

#[test]
fn rfc1035_4_1_4_pointers_lead_back_only() {
    let read =
        |tail: &[u8], at: usize| Name::read(&[&EDNS[..29], tail].concat(), at).map(|(name, end)| (name.octets().to_vec(), end));
    assert_eq!(read(b"\xc0\x0c", 29), Some((b"\x03www\x07example\x00".to_vec(), 31)));
    assert_eq!(read(b"\x02ns\xc0\x10", 29), Some((b"\x02ns\x07example\x00".to_vec(), 34)));
    for (what, tail) in [
        ("itself", &b"\xc0\x1d"[..]),
        ("ahead", b"\xc0\x1f\x00"),
        ("a loop of two", b"\xc0\x1f\xc0\x1d"),
        ("a label before itself", b"\x01a\xc0\x1d"),
        ("the header", b"\xc0\x00"),
        ("half a pointer", b"\xc0"),
        ("a kind of label that there is not", b"\x40a\x00"),
        ("half a label", b"\x05ab"),
        ("no end", b"\x01a"),
    ] {
        assert_eq!(read(tail, 29), None, "{what}");
    }
    // Back, and back again: as often as there are pointers, never twice to one place.
    assert_eq!(read(b"\xc0\x0c\x01a\xc0\x1d", 31), Some((b"\x01a\x03www\x07example\x00".to_vec(), 35)));
}

#[test]
fn rfc1035_3_1_a_name_has_255_octets_at_the_most() {
    let name =
        |last: usize| [vec![0; 12], [&[62; 63][..]; 4].concat(), vec![b'a'; 0], vec![last as u8; last + 1], vec![0]].concat();
    assert_eq!(Name::read(&name(1), 12).unwrap().0.octets().len(), 255);
    assert!(Name::read(&name(2), 12).is_none());
    // By pointers too.
    let mut long = name(1);
    long.extend_from_slice(b"\x01a\xc0\x0c");
    assert!(Name::read(&long, 12 + 255).is_none());
    let most = [vec![0; 12], [&b"\x01a"[..]; 127].concat(), vec![0]].concat();
    assert_eq!(Name::read(&most, 12).unwrap().0.labels(), 127);
}

#[test]
fn rfc6891_6_1_1_there_is_one_opt_record_of_the_root() {
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    let with = |counts: &[u8], tail: &[u8]| {
        let message = [&EDNS[..6], counts, &EDNS[12..29], tail].concat();
        Question::of_query(&message).unwrap().edns
    };
    assert_eq!(with(&[0; 6], &[]), Ok(None));
    assert_eq!(with(&[0, 0, 0, 0, 0, 2], &[&opt[..], opt].concat()), Err(Malformed), "two");
    assert_eq!(with(&[0, 1, 0, 0, 0, 0], opt), Err(Malformed), "in another section");
    assert_eq!(with(&[0, 0, 0, 0, 0, 1], &[b"\xc0\x0c", &opt[1..]].concat()), Err(Malformed), "of another name");
    assert_eq!(with(&[0, 0, 0, 0, 0, 1], &opt[..9]), Err(Malformed), "half of it");
    assert_eq!(with(&[0, 0, 0, 0, 0, 1], &[&opt[..10], &b"\x03\x00\x08\x00"[..]].concat()), Err(Malformed), "an option cut off");
    let subnet = [&opt[..10], &b"\x04\x00\x08\x00\x00"[..]].concat();
    assert!(with(&[0, 0, 0, 0, 0, 1], &subnet).unwrap().unwrap().subnet);
}

#[test]
fn what_is_no_question_is_none() {
    for (what, message) in [
        ("nothing", Vec::new()),
        ("half a header", EDNS[..11].to_vec()),
        ("no question", [&EDNS[..5], &[0], &EDNS[6..]].concat()),
        ("two", [&EDNS[..5], &[2], &EDNS[6..]].concat()),
        ("a pointer", [&EDNS[..12], &b"\xc0\x0c\x00\x01\x00\x01"[..]].concat()),
        ("half a question", EDNS[..28].to_vec()),
    ] {
        assert!(Question::read(&message).is_none(), "{what}");
    }
}

proptest! {
    #[test]
    fn octets_of_all_kinds(octets: Vec<u8>, at in 0..64_usize, tail: Vec<u8>) {
        let _ = Name::read(&octets, at);
        let message = [&EDNS[..29], &tail].concat();
        prop_assert!(Records::new(&message, 29).count() <= tail.len() + 1);
        if let Some((name, end)) = Name::read(&message, at) {
            prop_assert!(end <= message.len() && name.octets().len() <= NAME);
        }
    }
}
