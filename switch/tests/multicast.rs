//! Multicast (L16, RFC 4541): who gets what goes to a group, and who is asked.
#![allow(missing_docs, clippy::unwrap_used)]
mod common;

use common::{A, ALL, Lab, START, access, eth, guarded, isolated, takes, trunk, vid};
use std::time::Duration;
use vswitch_switch::groups::{
    Change, Family, GROUPS, Group, LAST_MEMBER_INTERVAL, MEMBER_AGE, PER_PORT, QUERIER_AGE, QUERY_INTERVAL, Query, RESPONSE,
    STARTUP_INTERVAL,
};
use vswitch_switch::{DropReason, Egress, Forward, Head, Mac, PortId, Vid};

const V4: [u8; 2] = [0x08, 0];
const V6: [u8; 2] = [0x86, 0xdd];
/// 239.1.2.3, 239.255.255.250 (SSDP), 224.0.0.251 (mDNS).
const G: [u8; 6] = [0x01, 0, 0x5e, 1, 2, 3];
const SSDP: [u8; 6] = [0x01, 0, 0x5e, 0x7f, 0xff, 0xfa];
const MDNS: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0xfb];
/// ff02::1, ff02::fb, ff02::1:ff01:203, ff05::1:3.
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const MDNS6: [u8; 6] = [0x33, 0x33, 0, 0, 0, 0xfb];
const SOLICITED: [u8; 6] = [0x33, 0x33, 0xff, 1, 2, 3];
const SITE: [u8; 6] = [0x33, 0x33, 0, 0x01, 0x01, 0x03];

fn group(mac: [u8; 6], name: u128) -> Group {
    let family = if mac[0] == 1 { Family::V4 } else { Family::V6 };
    Group { name, mac: Mac(mac), family }
}

/// A report, as a frame to 224.0.0.22.
fn says(lab: &mut Lab, port: PortId, changes: &[Change]) -> Result<Vec<PortId>, DropReason> {
    let frame = eth([0x01, 0, 0x5e, 0, 0, 22], source(port), &V4);
    let head = Head::parse(&frame, None).unwrap();
    let from = lab.switch.admit(port, &head, lab.now)?;
    match lab.switch.report(from, &head, changes.iter().copied(), lab.now) {
        Forward::To(Egress::Flood(mut flood)) => {
            let takers: Vec<_> = std::iter::from_fn(|| lab.switch.flood_next(&mut flood)).map(|(id, _)| id).collect();
            assert_eq!(flood.copies() as usize, takers.len());
            Ok(takers)
        }
        Forward::To(Egress::One(..)) => panic!("a report is no unicast"),
        Forward::Drop(reason) => Err(reason),
    }
}

fn source(port: PortId) -> [u8; 6] {
    [2, 0, 0, 0, 9, port.get() as u8]
}

fn reach(lab: &mut Lab, from: PortId, dst: [u8; 6]) -> Vec<PortId> {
    let kind = if dst[0] == 1 { V4 } else { V6 };
    let mut all = lab.reach(from, &eth(dst, source(from), &kind)).unwrap();
    all.retain(|id| *id != PortId::GATEWAY);
    all
}

fn queries(lab: &mut Lab) -> Vec<(Query, Egress)> {
    lab.switch.tend_groups(lab.now);
    std::iter::from_fn(|| lab.switch.next_query()).collect()
}

fn pass(lab: &mut Lab, time: Duration) {
    lab.now = lab.now.after(time);
}

/// One member and a querier of both families that was heard long enough ago.
fn snooping() -> (Lab, [PortId; 4]) {
    let mut lab = Lab::new();
    let ports = lab.ports::<4>();
    says(&mut lab, ports[1], &[Change::Join(group(G, 1)), Change::Join(group(SOLICITED, 2))]).unwrap();
    assert_eq!(queries(&mut lab).len(), 2);
    pass(&mut lab, RESPONSE);
    (lab, ports)
}

#[test]
fn l16_members_only_once_they_are_known() {
    let mut lab = Lab::new();
    let [a, b, c, d] = lab.ports();
    assert_eq!(reach(&mut lab, a, G), [b, c, d], "nobody is known");
    assert_eq!(says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap(), [PortId::GATEWAY], "RFC 4541 2.1.1 (1): to routers only");
    let asked = queries(&mut lab);
    assert!(matches!(asked[..], [(Query::General(Vid::DEFAULT, Family::V4), Egress::Flood(_))]), "{asked:?}");
    assert_eq!(reach(&mut lab, a, G), [b, c, d], "others have not answered yet");
    pass(&mut lab, RESPONSE);
    assert_eq!(reach(&mut lab, a, G), [b]);
    assert_eq!(reach(&mut lab, b, G), [], "not back to the member itself");
    says(&mut lab, d, &[Change::Join(group(G, 1))]).unwrap();
    assert_eq!(reach(&mut lab, a, G), [b, d]);
    // IGMP's members say nothing of MLD's.
    assert_eq!(reach(&mut lab, a, SOLICITED), [b, c, d]);
}

#[test]
fn l16_what_nobody_reports_is_flooded_always() {
    let (mut lab, [a, b, c, d]) = snooping();
    lab.switch.set_flood_unregistered(false);
    for dst in [MDNS, [0x01, 0, 0x5e, 0, 0, 1], ALL_NODES, MDNS6, [0x33, 0x33, 0xff, 9, 9, 9], [0x33, 0x33, 0, 1, 0, 2]] {
        assert_eq!(reach(&mut lab, a, dst), [b, c, d], "{dst:02x?}");
    }
    assert_eq!(lab.reach(a, &eth(ALL, A, &V4)).unwrap().len(), 4);
    // Not IP: no report can be made for it.
    assert_eq!(lab.reach(a, &eth(SSDP, A, &[0x88, 0xb6])).unwrap().len(), 4);
    assert_eq!(reach(&mut lab, a, SOLICITED), [b], "known members");
}

#[test]
fn l16_unregistered_groups_flood_or_go_to_routers() {
    let (mut lab, [a, b, c, d]) = snooping();
    assert_eq!(reach(&mut lab, a, SSDP), [b, c, d]);
    lab.switch.set_flood_unregistered(false);
    assert_eq!(reach(&mut lab, a, SSDP), []);
    assert_eq!(lab.reach(a, &eth(SITE, A, &V6)).unwrap(), [PortId::GATEWAY]);
    says(&mut lab, c, &[Change::Join(group(SSDP, 9))]).unwrap();
    assert_eq!(reach(&mut lab, a, SSDP), [c]);
}

#[test]
fn l16_router_ports_get_everything_for_260_s() {
    let (mut lab, [a, b, c, d]) = snooping();
    lab.switch.set_flood_unregistered(false);
    assert_eq!(says(&mut lab, d, &[Change::Query(Family::V4)]).unwrap().len(), 4, "a query is everybody's");
    assert_eq!(reach(&mut lab, a, G), [b, d]);
    assert_eq!(reach(&mut lab, a, SSDP), [d]);
    assert_eq!(says(&mut lab, c, &[Change::Join(group(SSDP, 9))]).unwrap(), [PortId::GATEWAY, d], "reports too");
    for _ in 0..300 {
        pass(&mut lab, Duration::from_secs(1));
        says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap();
        queries(&mut lab);
        lab.switch.tick(lab.now, 1_000);
    }
    assert_eq!(reach(&mut lab, a, G), [b]);
}

#[test]
fn l16_a_leave_is_asked_about_twice_a_second_apart() {
    let (mut lab, [a, b, c, _]) = snooping();
    says(&mut lab, c, &[Change::Join(group(G, 1))]).unwrap();
    says(&mut lab, c, &[Change::Leave(group(G, 1)), Change::Leave(group(G, 1))]).unwrap();
    let specific = |lab: &mut Lab| {
        let asked = queries(lab);
        asked.into_iter().filter(|(query, _)| matches!(query, Query::Specific(..))).map(|(_, to)| to).collect::<Vec<_>>()
    };
    assert!(matches!(specific(&mut lab)[..], [Egress::One(to, _)] if to == c), "only whoever left is asked, once");
    assert_eq!(reach(&mut lab, a, G), [b, c], "until he has had time to answer");
    pass(&mut lab, LAST_MEMBER_INTERVAL);
    assert_eq!(specific(&mut lab).len(), 1);
    pass(&mut lab, LAST_MEMBER_INTERVAL);
    assert_eq!(specific(&mut lab).len(), 0);
    assert_eq!(reach(&mut lab, a, G), [b]);
    // Another program behind the port still listens.
    says(&mut lab, b, &[Change::Leave(group(G, 1))]).unwrap();
    specific(&mut lab);
    pass(&mut lab, LAST_MEMBER_INTERVAL / 2);
    says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap();
    for _ in 0..3 {
        pass(&mut lab, LAST_MEMBER_INTERVAL);
        assert_eq!(specific(&mut lab).len(), 0);
    }
    assert_eq!(reach(&mut lab, a, G), [b]);
}

#[test]
fn l16_groups_that_share_an_address_are_left_one_by_one() {
    let (mut lab, [a, b, ..]) = snooping();
    says(&mut lab, b, &[Change::Join(group(G, 77)), Change::Leave(group(G, 1))]).unwrap();
    for _ in 0..3 {
        queries(&mut lab);
        pass(&mut lab, LAST_MEMBER_INTERVAL);
    }
    lab.switch.set_flood_unregistered(false);
    assert_eq!(reach(&mut lab, a, G), [b]);
}

#[test]
fn rfc3376_8_2_queries_come_every_125_s_while_somebody_listens() {
    let mut lab = Lab::new();
    let [_, b] = lab.ports();
    assert_eq!((queries(&mut lab), lab.switch.deadline()), (vec![], None), "nobody listens: nothing is sent");
    says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap();
    let mut at = Vec::new();
    while lab.now.since(START) < Duration::from_secs(700) {
        if !queries(&mut lab).is_empty() {
            at.push(lab.now.since(START));
            says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap();
        }
        assert!(lab.switch.deadline().is_some());
        pass(&mut lab, Duration::from_millis(250));
    }
    let first = STARTUP_INTERVAL;
    assert_eq!(at[..4], [Duration::ZERO, first, first + QUERY_INTERVAL, first + QUERY_INTERVAL * 2]);
    // The last one goes: so do the queries.
    lab.switch.remove_port(b);
    pass(&mut lab, QUERY_INTERVAL);
    assert_eq!((queries(&mut lab), lab.switch.deadline()), (vec![], None));
}

#[test]
fn rfc4541_another_querier_is_left_to_ask() {
    let (mut lab, [_, b, _, d]) = snooping();
    let asked = |lab: &mut Lab| queries(lab).iter().filter(|(query, _)| matches!(query, Query::General(_, Family::V4))).count();
    for _ in 0..6 {
        says(&mut lab, d, &[Change::Query(Family::V4)]).unwrap();
        says(&mut lab, b, &[Change::Join(group(G, 1))]).unwrap();
        pass(&mut lab, QUERY_INTERVAL);
        assert_eq!(asked(&mut lab), 0);
    }
    pass(&mut lab, QUERIER_AGE - QUERY_INTERVAL);
    assert_eq!(asked(&mut lab), 1, "it is gone");
}

#[test]
fn l16_memberships_end_after_260_s_and_without_a_querier_everything_floods() {
    let (mut lab, [a, b, c, d]) = snooping();
    says(&mut lab, c, &[Change::Join(group(G, 1))]).unwrap();
    pass(&mut lab, Duration::from_secs(125));
    queries(&mut lab);
    says(&mut lab, c, &[Change::Join(group(G, 1))]).unwrap();
    pass(&mut lab, MEMBER_AGE - Duration::from_secs(124));
    queries(&mut lab);
    lab.switch.tick(lab.now, 1_000);
    assert_eq!(reach(&mut lab, a, G), [c], "b did not answer");
    // Nobody asks any more: whoever listens is not known.
    pass(&mut lab, QUERIER_AGE);
    assert_eq!(reach(&mut lab, a, G), [b, c, d]);
}

#[test]
fn l16_full_is_a_flood_never_a_loss() {
    let (mut lab, [a, b, c, _]) = snooping();
    lab.switch.set_flood_unregistered(false);
    for number in 0..PER_PORT + 10 {
        let [.., x, y] = number.to_be_bytes();
        says(&mut lab, c, &[Change::Join(group([1, 0, 0x5e, 9, x, y], number.into()))]).unwrap();
    }
    assert_eq!(lab.switch.groups().full(), 10);
    assert_eq!(reach(&mut lab, a, G), [b, c], "it gets what it could not be entered for, and the rest");
    assert!((lab.switch.groups().len() as usize) < GROUPS);
    lab.switch.remove_port(c);
    assert_eq!((reach(&mut lab, a, G), lab.switch.groups().len()), (vec![b], 2));
}

#[test]
fn l16_l17_members_are_reached_within_their_vlan_and_group_only() {
    let mut lab = Lab::new();
    let (a, b) = (lab.port(isolated()), lab.port(isolated()));
    let (c, d) = (lab.port(access(20)), lab.port(trunk("20", None)));
    let e = lab.port(takes(true, true, false));
    for port in [b, e] {
        says(&mut lab, port, &[Change::Join(group(G, 1))]).unwrap();
    }
    // The gateway is not there, and no other router: it ends here, heard.
    assert_eq!(says(&mut lab, c, &[Change::Join(group(G, 1))]), Err(DropReason::NoEgress));
    assert_eq!(queries(&mut lab).len(), 2, "each VLAN is asked for itself");
    pass(&mut lab, RESPONSE);
    assert_eq!(reach(&mut lab, a, G), [e], "whoever listens is not asked whether it takes floods");
    let tagged = eth(G, source(d), &[0x81, 0, 0, 20, 8, 0]);
    assert_eq!(lab.reach(d, &tagged).unwrap(), [c]);
    assert!(lab.switch.port_config(c).unwrap().vlan.carries(vid(20)));
}

#[test]
fn l08_a_report_with_a_spoofed_source_enters_nothing() {
    let mut lab = Lab::new();
    let a = lab.port(guarded(A));
    assert_eq!(says(&mut lab, a, &[Change::Join(group(G, 1))]), Err(DropReason::Spoof));
    assert!(lab.switch.groups().is_empty());
}
