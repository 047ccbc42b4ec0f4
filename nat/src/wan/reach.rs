//! Whether the default routers answer us.
//!
//! Theory. A router is *unknown* until requests for it have come to an end: with its answer it *answers*; when a round of them
//! ([`super::neighbor::TRIES`]) was in vain it is *silent*, until it answers. Silence and its end are told, each once. A router is asked as soon
//! as it is ours ([`Routers::renew`]), not only when a packet waits for it; a silent one every [`RETRY`], so that its answer is noticed without
//! traffic too.
//!
//! What silence means, who reads it judges: on a link that is up it is the mark of a network that lets only one hardware address of an interface
//! through (access points, most clouds), but a router that is off is as silent.
use core::net::IpAddr;
use core::time::Duration;
use vswitch_switch::Time;

/// Between two rounds of requests for a silent router.
pub const RETRY: Duration = Duration::from_secs(30);

/// What is known of a router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Reach {
    #[default]
    Unknown,
    Answers,
    Silent,
}

/// A default router is silent, or answers again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterNews {
    /// Who.
    pub router: IpAddr,
    /// Whether it answers.
    pub answers: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    reach: Reach,
    /// When it is to be asked.
    due: Option<Time>,
    news: Option<RouterNews>,
}

/// See the module's theory. One router of each family.
#[derive(Debug, Default)]
pub(super) struct Routers {
    v4: Watch,
    v6: Watch,
}

impl Routers {
    const fn watch(&mut self, router: IpAddr) -> &mut Watch {
        match router {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }

    /// They may be others, or elsewhere: nothing is known of them, and they are to be asked. A silence that was told is over with them.
    pub(super) fn renew(&mut self, now: Time) {
        let watch = Watch { due: Some(now), ..Watch::default() };
        *self = Self { v4: watch, v6: watch };
    }

    /// It answered.
    pub(super) fn answered(&mut self, router: IpAddr) {
        let watch = self.watch(router);
        if watch.reach == Reach::Silent {
            watch.news = Some(RouterNews { router, answers: true });
        }
        (watch.reach, watch.due) = (Reach::Answers, None);
    }

    /// A round of requests was in vain.
    pub(super) fn in_vain(&mut self, router: IpAddr, now: Time) {
        let watch = self.watch(router);
        if watch.reach != Reach::Silent {
            watch.news = Some(RouterNews { router, answers: false });
        }
        (watch.reach, watch.due) = (Reach::Silent, Some(now.after(RETRY)));
    }

    /// Those that are to be asked now; `routers` says who they are.
    pub(super) fn next(&mut self, routers: [Option<IpAddr>; 2], now: Time) -> Option<IpAddr> {
        let watches = [&mut self.v4, &mut self.v6];
        watches.into_iter().zip(routers).find_map(|(watch, router)| {
            watch.due.take_if(|due| *due <= now)?;
            router
        })
    }

    pub(super) const fn news(&mut self) -> Option<RouterNews> {
        match self.v4.news.take() {
            Some(news) => Some(news),
            None => self.v6.news.take(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.v4.due.into_iter().chain(self.v6.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::neighbor::{INTERVAL, TRIES};
    use super::super::{Wan, WanConfig, WanOutput};
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::net::Ipv4Addr;
    use vswitch_switch::{FramePool, Head, Mac, UnicastMac};

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// A reply of [`ROUTER`] to 192.0.2.9.
    const REPLY: [u8; 42] = [
        0x02, 0x58, 192, 0, 2, 9, 0x02, 0x11, 0, 0, 0, 1, 0x08, 0x06, //
        0, 1, 0x08, 0, 6, 4, 0, 2, 0x02, 0x11, 0, 0, 0, 1, 192, 0, 2, 1, 0x02, 0x58, 192, 0, 2, 9, 192, 0, 2, 9,
    ];

    fn wan() -> Wan {
        let mac = UnicastMac::new(Mac([0x02, 0x58, 192, 0, 2, 9])).unwrap();
        let v4 = vec![(Ipv4Addr::new(192, 0, 2, 9), 24)];
        let mut wan = Wan::new(WanConfig { mac, mtu: 1_500, v4, v6: vec![], gateway_v4: Some(ROUTER), gateway_v6: None }, 1);
        wan.forget_link(Time::from_secs(10));
        wan
    }

    /// The news of so many seconds, each with its second, and how often anybody was asked for.
    fn pass(wan: &mut Wan, seconds: core::ops::Range<u64>) -> (Vec<(u64, RouterNews)>, usize) {
        let (mut pool, mut news, mut asked) = (FramePool::new(4), vec![], 0);
        for second in seconds {
            while let Some(output) = wan.poll(&mut pool, Time::from_secs(second)) {
                let (WanOutput::Send { frame, .. } | WanOutput::Failed(frame)) = output;
                // An announcement names itself at both ends.
                asked += usize::from(frame.bytes()[28..32] != frame.bytes()[38..42]);
                pool.put(frame);
            }
            news.extend(wan.router_news().map(|news| (second, news)));
        }
        (news, asked)
    }

    fn hear(wan: &mut Wan, octets: &[u8], second: u64) {
        let mut frame = FramePool::new(1).take().unwrap();
        assert!(frame.fill(octets));
        let _ = wan.receive(frame, &Head::parse(octets, None).unwrap(), Time::from_secs(second));
    }

    fn is(answers: bool) -> RouterNews {
        RouterNews { router: ROUTER.into(), answers }
    }

    #[test]
    fn silence_and_its_end_are_told_once() {
        let mut wan = wan();
        let silent = 10 + u64::from(TRIES) * INTERVAL.as_secs();
        assert_eq!(pass(&mut wan, 10..100), (vec![(silent, is(false))], 9), "asked on, told once");
        // In the midst of a round or late, it is an answer.
        hear(&mut wan, &REPLY, 100);
        assert_eq!(pass(&mut wan, 100..300), (vec![(100, is(true))], 0));
    }

    #[test]
    fn one_that_answers_is_no_news() {
        let mut wan = wan();
        assert_eq!(pass(&mut wan, 10..11), (vec![], 1), "asked without traffic");
        hear(&mut wan, &REPLY, 11);
        assert_eq!(pass(&mut wan, 11..300), (vec![], 0));
        // Where the link may be another, it is asked again.
        wan.forget_link(Time::from_secs(300));
        assert_eq!(pass(&mut wan, 300..301), (vec![], 1));
        assert_eq!(pass(&mut wan, 301..304).0, [(303, is(false))]);
    }

    #[test]
    fn another_router_is_another_matter() {
        let mut wan = wan();
        assert_eq!(pass(&mut wan, 10..20).0, [(13, is(false))]);
        let other = Ipv4Addr::new(192, 0, 2, 2);
        wan.set_config(WanConfig { gateway_v4: Some(other), ..wan.config().clone() }, Time::from_secs(20));
        assert_eq!(pass(&mut wan, 20..24).0, [(23, RouterNews { router: other.into(), answers: false })]);
        wan.set_config(WanConfig { gateway_v4: None, ..wan.config().clone() }, Time::from_secs(24));
        assert_eq!(pass(&mut wan, 24..90), (vec![], 0), "without one nobody is asked");
        assert_eq!(wan.deadline(), None);
    }
}
