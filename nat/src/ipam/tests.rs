use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::string::ToString;
use std::vec;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn name(name: &str) -> Holder {
    Holder::Name(name.into())
}

fn at(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

/// A /29: hosts .1 to .6, of which .1 is the gateway's.
fn small() -> Ipam {
    Ipam::new(ip(1), 29)
}

fn give(ipam: &mut Ipam, to: &str) -> Result<Ipv4Addr, IpamError> {
    let address = ipam.choose(&[name(to)])?;
    ipam.hold(address, name(to), None);
    Ok(address)
}

#[test]
fn fresh_addresses_come_first_and_each_its_last() {
    let mut ipam = small();
    assert_eq!([give(&mut ipam, "a"), give(&mut ipam, "b"), give(&mut ipam, "c")], [Ok(ip(2)), Ok(ip(3)), Ok(ip(4))]);
    assert!(ipam.release(ip(2), at(1)) && ipam.release(ip(3), at(2)));
    assert!(!ipam.release(ip(3), at(2)), "once");
    assert_eq!(give(&mut ipam, "d"), Ok(ip(5)), "no other gets what was just freed");
    assert_eq!(give(&mut ipam, "b"), Ok(ip(3)), "who comes back does");
    assert_eq!(give(&mut ipam, "e"), Ok(ip(6)));
    assert_eq!(give(&mut ipam, "f"), Ok(ip(2)), "better than none");
    let usage = Usage { hosts: 5, held: 5, reserved: 0, declined: 0 };
    assert_eq!(give(&mut ipam, "g"), Err(IpamError::Exhausted(usage)));
}

#[test]
fn of_those_in_quarantine_the_first_freed_goes() {
    let mut ipam = small();
    for holder in ["a", "b", "c", "d", "e"] {
        give(&mut ipam, holder).unwrap();
    }
    for (second, last) in [(1, 4), (2, 6), (3, 2)] {
        ipam.release(ip(last), at(second));
    }
    assert_eq!([give(&mut ipam, "x"), give(&mut ipam, "y"), give(&mut ipam, "z")], [Ok(ip(4)), Ok(ip(6)), Ok(ip(2))]);
    assert_eq!(ipam.of(&name("c")), None, "it is another one's now");
}

#[test]
fn an_address_asked_for() {
    let mut ipam = small();
    give(&mut ipam, "a").unwrap();
    assert_eq!(ipam.check(ip(2), &[name("b")]), Err(IpamError::Taken(name("a"))));
    assert_eq!(ipam.check(ip(2), &[name("a")]), Ok(()));
    for wrong in [ip(0), ip(1), ip(7), ip(8)] {
        assert_eq!(ipam.check(wrong, &[name("b")]), Err(IpamError::NoHost), "{wrong}");
    }
    ipam.release(ip(2), at(1));
    assert_eq!(ipam.check(ip(2), &[name("b")]), Ok(()), "quarantine is for who did not ask");
}

#[test]
fn who_asks_gets_nothing_that_others_are_kept_from() {
    let mut ipam = small();
    for holder in ["a", "b"] {
        give(&mut ipam, holder).unwrap();
    }
    let offer = |ipam: &mut Ipam, to: &str, last, seconds| ipam.offer(&[name(to)], Some(ip(last)), at(seconds));
    assert_eq!(offer(&mut ipam, "x", 6, 1), Ok(ip(6)), "a fresh one that it wants");
    assert_eq!(offer(&mut ipam, "x", 2, 1), Ok(ip(4)), "another's");
    ipam.release(ip(2), at(10));
    assert_eq!(offer(&mut ipam, "x", 2, 11), Ok(ip(4)), "in quarantine");
    assert_eq!(offer(&mut ipam, "a", 2, 11), Ok(ip(2)), "but not for its last holder");
    assert_eq!(offer(&mut ipam, "x", 2, 10 + QUARANTINE.as_secs()), Ok(ip(2)));
    ipam.decline(ip(3), at(10));
    assert_eq!(offer(&mut ipam, "b", 3, 1_000), Ok(ip(4)), "declined, until that expires");
}

#[test]
fn a_reserved_address_is_its_holders() {
    let mut ipam = small();
    ipam.reserve(ip(2), &[name("db")]).unwrap();
    assert_eq!(ipam.reserve(ip(2), &[name("x")]), Err(IpamError::Reserved(name("db"))));
    assert_eq!(give(&mut ipam, "a"), Ok(ip(3)));
    assert_eq!(ipam.reserve(ip(3), &[name("x")]), Err(IpamError::Taken(name("a"))));
    assert_eq!(ipam.check(ip(2), &[name("a")]), Err(IpamError::Reserved(name("db"))));
    assert_eq!(ipam.usage().reserved, 1);
    assert_eq!(give(&mut ipam, "db"), Ok(ip(2)));
    ipam.release(ip(2), at(1));
    for holder in ["b", "c", "d"] {
        give(&mut ipam, holder).unwrap();
    }
    assert!(matches!(give(&mut ipam, "e"), Err(IpamError::Exhausted(Usage { hosts: 5, held: 4, reserved: 1, .. }))));
    // One holder has one reservation; what is no longer reserved is anybody's.
    ipam.release(ip(4), at(2));
    ipam.reserve(ip(4), &[name("db")]).unwrap();
    assert_eq!(ipam.reservations().collect::<Vec<_>>(), vec![(ip(4), &name("db"))]);
    assert_eq!(give(&mut ipam, "e"), Ok(ip(2)));
    let mut passed = small();
    passed.reserve(ip(2), &[name("db")]).unwrap();
    assert_eq!(give(&mut passed, "a"), Ok(ip(3)));
    passed.reserve(ip(5), &[name("db")]).unwrap();
    assert_eq!(give(&mut passed, "b"), Ok(ip(2)), "reserved no longer, and never had");
    assert_eq!(ipam.unreserve(ip(4)), Some(name("db")));
    assert_eq!(give(&mut ipam, "f"), Ok(ip(4)));
}

#[test]
fn a_mac_and_a_name_are_one_holder() {
    let mut ipam = small();
    let mac = Holder::Mac(UnicastMac::for_ipv4([10, 0, 0, 9]));
    ipam.reserve(ip(5), core::slice::from_ref(&mac)).unwrap();
    assert_eq!(ipam.choose(&[name("a"), mac.clone()]), Ok(ip(5)));
    assert_eq!(ipam.check(ip(5), &[name("a"), mac.clone()]), Ok(()));
    // Who has an address by one may have it reserved for the other.
    ipam.hold(ip(6), name("a"), None);
    assert_eq!(ipam.reserve(ip(6), core::slice::from_ref(&mac)), Err(IpamError::Taken(name("a"))));
    assert_eq!(ipam.reserve(ip(6), &[mac.clone(), name("a")]), Ok(()));
    assert_eq!(ipam.reservations().collect::<Vec<_>>(), vec![(ip(6), &mac)]);
}

#[test]
fn leases_end_and_are_extended() {
    let mut ipam = small();
    ipam.hold(ip(2), name("a"), Some(at(100)));
    ipam.hold(ip(3), name("b"), Some(at(50)));
    assert_eq!(ipam.deadline(), Some(at(50)));
    assert!(ipam.extend(ip(3), Some(at(200))) && !ipam.extend(ip(4), None));
    assert!(ipam.expire(at(99)).is_empty());
    assert_eq!(ipam.expire(at(100)), vec![ip(2)]);
    assert_eq!(ipam.get(ip(2)), Some((&name("a"), Use::Kept { since: at(100) })));
    assert_eq!(ipam.deadline(), Some(at(200)));
}

/// RFC 2131 4.3.3.
#[test]
fn a_declined_address_rests() {
    let mut ipam = small();
    for holder in ["a", "b", "c", "d", "e"] {
        give(&mut ipam, holder).unwrap();
    }
    assert!(ipam.decline(ip(3), at(10)) && !ipam.decline(ip(3), at(10)));
    let usage = Usage { hosts: 5, held: 4, reserved: 0, declined: 1 };
    assert_eq!(give(&mut ipam, "b"), Err(IpamError::Exhausted(usage)), "not even its last holder");
    let rested = at(10).after(DECLINED);
    assert_eq!(ipam.expire(rested), vec![ip(3)]);
    assert_eq!(give(&mut ipam, "x"), Ok(ip(3)));
}

#[test]
fn what_another_process_knew() {
    let mut ipam = small();
    ipam.remember(ip(4), name("a"), Use::Kept { since: at(1) });
    ipam.remember(ip(4), name("b"), Use::Kept { since: at(1) });
    ipam.remember(ip(9), name("c"), Use::Kept { since: at(1) });
    assert_eq!(ipam.after(None).count(), 1);
    assert_eq!(give(&mut ipam, "b"), Ok(ip(2)));
    assert_eq!(give(&mut ipam, "a"), Ok(ip(4)));
    assert_eq!(ipam.after(Some(ip(2))).map(|(address, ..)| address).collect::<Vec<_>>(), vec![ip(4)]);
}

#[test]
fn a_large_subnet_takes_no_walk() {
    let mut ipam = Ipam::new(Ipv4Addr::new(10, 0, 0, 1), 8);
    for number in 0..100_000_u32 {
        let holder = name(&number.to_string());
        let address = ipam.choose(core::slice::from_ref(&holder)).unwrap();
        assert_eq!(address.to_bits(), Ipv4Addr::new(10, 0, 0, 2).to_bits() + number);
        ipam.hold(address, holder, None);
    }
    for number in 0..100_000_u32 {
        ipam.release(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 2).to_bits() + number), at(1));
    }
    assert_eq!(ipam.after(None).count(), KEPT, "the rest is forgotten");
    assert_eq!(give(&mut ipam, "x"), Ok(Ipv4Addr::new(10, 0, 0, 2)), "and fresh again");
}

#[test]
fn who_asks_again_has_its_address() {
    let mut ipam = Ipam::new(ip(1), 28);
    let holder = [name("vm")];
    let address = ipam.choose(&holder).unwrap();
    ipam.hold(address, holder[0].clone(), Some(at(60)));
    assert_eq!(ipam.choose(&holder), Ok(address), "behind another port, or before it answered the first offer");
}

proptest! {
    /// No two have one address, whatever they do; nobody gets the gateway's, one outside, or one that is reserved for another.
    #[test]
    fn an_address_has_one_holder(steps in proptest::collection::vec((0u8..7, 0u8..8, 0u8..16), 1..200)) {
        let mut ipam = Ipam::new(ip(3), 28);
        let mut held: HashMap<Ipv4Addr, Holder> = HashMap::new();
        for (now, (action, who, which)) in (1u64..).zip(steps) {
            let (holder, address, now) = (name(&who.to_string()), ip(which), at(now * 40));
            match action {
                0 | 1 => {
                    if let Ok(address) = ipam.choose(core::slice::from_ref(&holder)) {
                        prop_assert!(held.get(&address).is_none_or(|other| *other == holder));
                        let reserved = ipam.reservations().find(|(other, _)| *other == address).map(|(_, holder)| holder.clone());
                        prop_assert!(reserved.is_none_or(|other| other == holder));
                        ipam.hold(address, holder.clone(), None);
                        held.insert(address, holder);
                    } else {
                        prop_assert!(held.len() + ipam.reservations().count() + usize::try_from(ipam.usage().declined).unwrap() >= 13);
                    }
                }
                2 => {
                    let may = ipam.check(address, core::slice::from_ref(&holder)).is_ok();
                    if may {
                        prop_assert!(held.get(&address).is_none_or(|other| *other == holder));
                        ipam.hold(address, holder.clone(), None);
                        held.insert(address, holder);
                    }
                }
                3 => prop_assert_eq!(ipam.release(address, now), held.remove(&address).is_some()),
                4 => prop_assert_eq!(ipam.decline(address, now), held.remove(&address).is_some()),
                5 => drop(ipam.reserve(address, &[holder])),
                _ => drop(ipam.expire(now)),
            }
            prop_assert!(held.keys().all(|address| ipam.is_host(address.to_bits())));
            for (address, holder) in &held {
                let found = ipam.get(*address);
                prop_assert!(matches!(found, Some((other, Use::Held { .. })) if other == holder), "{address} {found:?}");
            }
            prop_assert_eq!(ipam.usage().held as usize, held.len());
        }
    }
}
