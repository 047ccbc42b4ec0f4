use super::*;
use crate::dns::message::Question;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// A of "www.example".
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// An answer with these records, each of a section, a type, a TTL and data.
fn answer(flags: u16, records: &[(usize, u16, u32, &[u8])]) -> Vec<u8> {
    let mut message = QUERY.to_vec();
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    for (section, kind, ttl, data) in records {
        message[7 + 2 * section] += 1;
        message.extend_from_slice(&[0xc0, 0x0c]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

fn soa(minimum: u32) -> Vec<u8> {
    [&[0, 0][..], &[0; 16], &minimum.to_be_bytes()].concat()
}

fn lifetime(flags: u16, records: &[(usize, u16, u32, &[u8])]) -> u32 {
    Stored::of(&answer(flags, records), QUERY.len()).unwrap().lifetime()
}

const ADDRESS: &[u8] = &[192, 0, 2, 1];

#[test]
fn the_least_ttl_counts() {
    assert_eq!(lifetime(0x8180, &[(0, 1, 300, ADDRESS), (0, 1, 60, ADDRESS), (2, 1, 90, ADDRESS)]), 60);
    assert_eq!(lifetime(0x8180, &[(0, 1, 0, ADDRESS)]), 0);
    // RFC 2181 8.
    assert_eq!(lifetime(0x8180, &[(0, 1, 0x8000_0001, ADDRESS)]), 0);
}

#[test]
fn rfc2308_5_a_denial_lasts_as_its_soa_record_says() {
    assert_eq!(lifetime(0x8183, &[(1, 6, 300, &soa(60))]), 60);
    assert_eq!(lifetime(0x8183, &[(1, 6, 30, &soa(60))]), 30);
    assert_eq!(lifetime(0x8180, &[(1, 6, 300, &soa(60))]), 60, "NODATA");
    assert_eq!(lifetime(0x8183, &[]), 0);
    assert_eq!(lifetime(0x8180, &[]), 0);
}

#[test]
fn what_is_no_answer_is_not_kept() {
    assert_eq!(lifetime(0x8380, &[(0, 1, 300, ADDRESS)]), 0, "truncated");
    assert_eq!(lifetime(0x8182, &[(1, 6, 300, &soa(60))]), 0, "SERVFAIL");
    assert_eq!(lifetime(0x8185, &[]), 0, "REFUSED");
}

#[test]
fn ttls_count_down_and_who_asks_otherwise_is_answered_as_he_asked() {
    let mut cache = Cache::new(1);
    let mut message = answer(0x81a0, &[(0, 1, 300, ADDRESS)]);
    // An OPT record of the resolver's, with a cookie.
    message[11] = 1;
    message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x00");
    let stored = Stored::of(&message, QUERY.len()).unwrap();
    cache.insert(b"key".to_vec(), &stored, at(1_000));
    assert_eq!(cache.get(b"other", at(1_000)), None);
    let (found, age) = cache.get(b"key", at(11_500)).unwrap();
    let mut asked = b"\xab\xcd".to_vec();
    asked.extend_from_slice(&QUERY[2..]);
    asked[13] = b'W';
    let question = Question::of_query(&asked).unwrap();
    let mut into = vec![0; found.room()];
    let len = found.write(&mut into, &asked, &question, age);
    let mut expected = answer(0x81a0, &[(0, 1, 289, ADDRESS)]);
    expected[..2].copy_from_slice(b"\xab\xcd");
    expected[13] = b'W';
    assert_eq!(into[..len], expected);
    asked[11] = 1;
    asked.extend_from_slice(b"\x00\x00\x29\x02\x00\x00\x00\x80\x00\x00\x00");
    let len = found.write(&mut into, &asked, &Question::of_query(&asked).unwrap(), age);
    assert!(into[..len].ends_with(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00") && into[11] == 1);
    assert!(cache.get(b"key", at(300_999)).is_some() && cache.get(b"key", at(301_000)).is_none());
    cache.expire(at(301_000));
    assert_eq!(cache.usage(), (0, 0));
}

#[test]
fn who_ends_next_gives_way() {
    let mut cache = Cache::new(1);
    for number in 0..=ENTRIES as u32 {
        let message = answer(0x8180, &[(0, 1, 300 + number, ADDRESS)]);
        cache.insert(number.to_be_bytes().to_vec(), &Stored::of(&message, QUERY.len()).unwrap(), at(0));
    }
    assert_eq!((cache.usage().0, cache.counts.evicted), (ENTRIES, 1));
    assert!(cache.get(&0_u32.to_be_bytes(), at(0)).is_none() && cache.get(&1_u32.to_be_bytes(), at(0)).is_some());
    cache.clear();
    let big = vec![0; 4_000];
    for number in 0..2_000_u32 {
        let message = answer(0x8180, &[(0, 1, 300, &big)]);
        cache.insert(number.to_be_bytes().to_vec(), &Stored::of(&message, QUERY.len()).unwrap(), at(0));
        assert!(cache.usage().1 <= OCTETS);
    }
}

proptest! {
    #[test]
    fn never_longer_than_received(ttls in prop::collection::vec(1..100_000_u32, 1..5), age in 0..200_000_000_u64) {
        let records: Vec<_> = ttls.iter().map(|ttl| (0, 1, *ttl, ADDRESS)).collect();
        let message = answer(0x8180, &records);
        let mut cache = Cache::new(1);
        cache.insert(Vec::new(), &Stored::of(&message, QUERY.len()).unwrap(), at(0));
        let least = u64::from(*ttls.iter().min().unwrap()).min(LONGEST.into());
        let found = cache.get(&[], at(age));
        prop_assert_eq!(found.is_some(), age < least * 1_000);
        if let Some((stored, age)) = found {
            let question = Question::of_query(QUERY).unwrap();
            let mut into = vec![0; stored.room()];
            let len = stored.write(&mut into, QUERY, &question, age);
            let left = crate::dns::message::Records::new(&into[..len], question.end).map(|record| record.unwrap().ttl);
            for (left, ttl) in left.zip(&ttls) {
                prop_assert!(u128::from(left) * 1_000_000_000 + age.as_nanos() <= u128::from(*ttl) * 1_000_000_000);
            }
        }
    }

    #[test]
    fn octets_of_all_kinds(tail: Vec<u8>, counts: [u8; 3]) {
        let mut message = QUERY.to_vec();
        message[2] = 0x81;
        for (place, count) in [7, 9, 11].into_iter().zip(counts) {
            message[place] = count % 4;
        }
        message.extend_from_slice(&tail);
        if let Some(stored) = Stored::of(&message, QUERY.len()) {
            let mut into = vec![0; stored.room()];
            let len = stored.write(&mut into, QUERY, &Question::of_query(QUERY).unwrap(), Duration::from_secs(1));
            prop_assert!(len <= into.len());
        }
    }
}
