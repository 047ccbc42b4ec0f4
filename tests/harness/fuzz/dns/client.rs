//! A client by TCP: what it sends and has sent, and what it is sent, octet for octet.
use super::message::{Read, word};
use vswitch_nat::packet::Segment;
use vswitch_nat::packet::tcp::{ACK, FIN, PSH, RST, SYN};
use vswitch_nat::station::Owner;

/// Octets that it may say in all.
const MOST: usize = 1 << 15;

pub(super) struct Client {
    pub(super) owner: Owner,
    /// The numbers of the two SYNs.
    pub(super) ours: u32,
    theirs: Option<u32>,
    /// What it says, and how much of that it has sent at least once.
    content: Vec<u8>,
    sent: usize,
    next: usize,
    /// It has ended, behind so many.
    ended: Option<usize>,
    got: Vec<u8>,
    parsed: usize,
    /// Questions that were answered, by where they are in the content.
    answered: Vec<usize>,
    over: bool,
}

impl Client {
    pub(super) fn new(owner: Owner, ours: u32) -> Self {
        let (content, got, answered) = (Vec::new(), Vec::new(), Vec::new());
        Self { owner, ours, theirs: None, content, sent: 0, next: 0, ended: None, got, parsed: 0, answered, over: false }
    }

    /// Something more to say, with that length before it.
    pub(super) fn say(&mut self, message: &[u8], len: usize) {
        if self.ended.is_none() && self.content.len() + message.len() < MOST {
            self.content.extend((len as u16).to_be_bytes());
            self.content.extend(message);
        }
    }

    fn ack(&self) -> u32 {
        self.theirs.map_or(0, |theirs| theirs.wrapping_add(1 + self.got.len() as u32))
    }

    pub(super) fn syn(&mut self, options: bool) -> Segment {
        self.over = false;
        let (scale, mss) = if options { (Some(7), Some(1_360)) } else { (None, None) };
        Segment { seq: self.ours, flags: SYN, window: 0xffff, scale, mss, ..Segment::default() }
    }

    /// So many octets of what there is, from the next on or from elsewhere.
    pub(super) fn data(&mut self, [how, from, len, window]: [u8; 4]) -> Option<(Segment, Vec<u8>)> {
        if self.over {
            return None;
        }
        let end = self.ended.unwrap_or(self.content.len());
        let start = if how & 2 == 0 { self.next } else { (self.next + usize::from(from)).saturating_sub(128) }.min(end);
        let len = if how & 1 == 0 { usize::from(len) } else { usize::from(len) * 40 };
        let stop = (start + len).min(end);
        let ends = how & 4 != 0 && stop == self.content.len();
        if ends {
            self.ended = Some(stop);
        }
        (self.next, self.sent) = (stop, self.sent.max(stop));
        let far = if how & 0x10 == 0 { 0 } else { 0x0100_0000 };
        let seq = self.ours.wrapping_add(1 + start as u32).wrapping_add(far);
        let flags = ACK | PSH | if ends { FIN } else { 0 };
        let payload = self.content[start..stop].to_vec();
        let ack = if how & 8 == 0 { self.ack() } else { self.ack().wrapping_sub(u32::from(from)) };
        let window = u16::from(window) << 8 | 0xff;
        Some((Segment { seq, ack, flags, window, len: payload.len() as u32, ..Segment::default() }, payload))
    }

    /// All acknowledged, or less or more, or a reset.
    pub(super) fn answer(&mut self, [how, by, window]: [u8; 3]) -> Segment {
        let past = u32::from(self.ended.is_some() && self.sent == self.content.len());
        let seq = self.ours.wrapping_add(1 + self.sent as u32 + past);
        let ack = match how & 3 {
            0 | 1 => self.ack(),
            2 => self.ack().wrapping_sub(by.into()),
            _ => self.ack().wrapping_add(by.into()),
        };
        let reset = how & 12 == 12;
        self.over |= reset;
        let seq = if how & 16 == 0 { seq } else { seq.wrapping_sub(by.into()) };
        let window = if how & 32 == 0 { u16::from(window) << 8 | 0xff } else { u16::from(window) };
        Segment { seq, ack, flags: if reset { RST | ACK } else { ACK }, window, ..Segment::default() }
    }

    /// Takes what comes; `is_current` is whether its station is there still.
    pub(super) fn hear(&mut self, s: &Segment, payload: &[u8], is_current: bool) {
        if s.has(RST) {
            self.over = true;
            return;
        }
        if s.has(SYN) {
            assert!(s.has(ACK) && s.ack == self.ours.wrapping_add(1), "another's SYN");
            assert!(self.theirs.is_none_or(|theirs| theirs == s.seq), "its number changes");
            self.theirs = Some(s.seq);
            return;
        }
        let Some(theirs) = self.theirs else { panic!("it says something before its SYN") };
        let told = s.ack.wrapping_sub(self.ours.wrapping_add(1)) as usize;
        assert!(told <= self.sent + usize::from(self.ended.is_some()), "acknowledged what was not sent");
        let at = s.seq.wrapping_sub(theirs.wrapping_add(1)) as i32;
        if payload.is_empty() && !s.has(FIN) {
            return;
        }
        assert!(is_current, "an answer for one that went");
        let Ok(at) = usize::try_from(at) else { panic!("before its SYN") };
        assert!(at <= self.got.len(), "a gap, and nothing was lost");
        let known = payload.len().min(self.got.len() - at);
        assert_eq!(payload[..known], self.got[at..at + known], "sent again, and not the same");
        self.got.extend(&payload[known..]);
        self.read();
        if s.has(FIN) && at + payload.len() == self.got.len() {
            self.finished(told);
        }
    }

    /// Each message in what it has sent, with its place.
    pub(super) fn messages(&self) -> Vec<(usize, &[u8])> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some(len) = word(&self.content[..self.sent], at) {
            let Some(message) = self.content[..self.sent].get(at + 2..at + 2 + usize::from(len)) else { break };
            all.push((at, message));
            at += 2 + usize::from(len);
        }
        all
    }

    fn read(&mut self) {
        while let Some(len) = word(&self.got, self.parsed) {
            let Some(answer) = self.got.get(self.parsed + 2..self.parsed + 2 + usize::from(len)) else { return };
            let mut asked = self.messages().into_iter().filter(|(at, _)| !self.answered.contains(at));
            let Some((at, _)) = asked.find(|(_, query)| super::answers(answer, query)) else {
                panic!("an answer to nothing that it has asked: {answer:02x?}")
            };
            self.answered.push(at);
            self.parsed += 2 + usize::from(len);
        }
    }

    /// The other end's last octet is here.
    fn finished(&self, told: usize) {
        assert_eq!(self.parsed, self.got.len(), "it ended within a message");
        if self.ended.is_some_and(|ended| told == ended + 1) {
            for (at, message) in self.messages() {
                assert!(Read::of_query(message).is_some() && self.answered.contains(&at), "a question without an answer");
            }
        }
    }
}
