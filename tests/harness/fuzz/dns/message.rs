//! Questions and answers as octets, and a reader of them that shares nothing with the one under test.
use super::super::Commands;

pub(super) const HEADER: usize = 12;
const OPT: u16 = 41;
const A: u16 = 1;
const SOA: u16 = 6;
const SUBNET: u16 = 8;
/// What an answer to who says nothing may have, and what one may have at all.
const PLAIN: usize = 512;
const MOST: usize = 1_232;
/// The first octet of data that say which question they answer.
const MARK: u8 = 77;
const KINDS: [u16; 8] = [A, 28, 12, A, SOA, 255, 252, 65];
const NAMES: [&str; 32] = [
    "web.vswitch.internal",
    "WEB.Vswitch.Internal",
    "web",
    "DB",
    "nobody.vswitch.internal",
    "vswitch.internal",
    "api.example",
    "2.0.88.10.in-addr.arpa",
    "9.15.88.10.IN-ADDR.arpa",
    "9.16.88.10.in-addr.arpa",
    "15.88.10.in-addr.arpa",
    "88.10.in-addr.arpa",
    "1.2.0.88.10.in-addr.arpa",
    "02.0.88.10.in-addr.arpa",
    "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.5.d.f.ip6.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.8.5.D.F.ip6.ARPA",
    "8.5.d.f.ip6.arpa",
    "x.1.0.0.0.0.0.0.0.0.0.0.0.0.8.5.d.f.ip6.arpa",
    "example.com",
    "Www.Example.Com",
    "com",
    "printer",
    "localhost",
    "a.localhost",
    "gateway",
    "gateway.vswitch.internal",
    "x.notvswitch.internal",
    "vswitch.internal.example.com",
    "internal",
    "",
    "a-name-that-is-as-long-as-a-label-may-be-which-is-sixty-three-o.a-name-that-is-as-long-as-a-label-may-be-which-is-sixty-three-o.\
     a-name-that-is-as-long-as-a-label-may-be-which-is-sixty-three-o.a-name-that-is-as-long-as-a-label-may-be-which-is-sixty-on",
    "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.\
     1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1",
];

pub(super) fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn put(message: &mut [u8], at: usize, value: u16) {
    if let Some(place) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// Eight octets that describe a query.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) id: u8,
    pub(super) name: u8,
    /// A label before the name, unless it is 0.
    pub(super) number: u16,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) edns: u8,
    pub(super) odd: u8,
}

impl Wish {
    pub(super) fn take(commands: &mut Commands<'_>) -> Option<Self> {
        let [id, name, number, kind, flags, edns, odd] = commands.octets()?;
        Some(Self { id, name, number: number.into(), kind, flags, edns, odd })
    }

    pub(super) fn octets(self) -> Vec<u8> {
        let mut message = vec![0xa5, self.id, self.flags & 0x79, self.flags << 4 & 0x30, 0, 1, 0, 0, 0, 0, 0, 0];
        let name = NAMES[usize::from(self.name & 31)];
        if self.number > 0 {
            message.push(6);
            message.extend(format!("n{:05}", self.number).into_bytes());
        }
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.push(0);
        // The case of letters, as the identifier has it.
        for (at, octet) in message.iter_mut().enumerate().skip(HEADER) {
            if self.name & 0x40 != 0 && self.id >> (at % 8) & 1 == 1 && octet.is_ascii_alphabetic() {
                *octet ^= 0x20;
            }
        }
        let kind = if self.kind & 0x80 == 0 { KINDS[usize::from(self.kind & 7)] } else { u16::from(self.kind) };
        let class = [1, 1, 1, 1, 1, 255, 3, 0][usize::from(self.odd & 7)];
        message.extend([kind, class].into_iter().flat_map(u16::to_be_bytes));
        self.extend(&mut message);
        match self.odd >> 3 {
            // A pointer into itself, a label's length too high, a response, counts that are none, an end that is missing.
            1 => message[HEADER] = 0xc0,
            2 => message[HEADER] = 0x60,
            3 => message[2] |= 0x80,
            4 => put(&mut message, 4, u16::from(self.id & 3)),
            5 => put(&mut message, 6 + usize::from(self.id % 3) * 2, 1),
            6 => message.truncate(message.len() - usize::from(self.id % 31).min(message.len())),
            7 => message.extend([self.id; 40]),
            8 => message.extend(vec![0; 5_000]),
            _ => {}
        }
        message
    }

    fn extend(self, message: &mut Vec<u8>) {
        if self.edns & 1 == 0 {
            return;
        }
        message[11] = 1;
        let size = [0u16, 511, 600, 1_232, 1_233, 4_096, 0xffff, 512][usize::from(self.edns >> 1 & 7)];
        message.push(0);
        message.extend([OPT, size].into_iter().flat_map(u16::to_be_bytes));
        message.extend([0, u8::from(self.edns & 0xf0 == 0x10), if self.edns & 0x80 == 0 { 0 } else { 0x80 }, 0]);
        message.extend(match self.edns >> 4 & 7 {
            // Options: a subnet, a cookie, one that is cut.
            2 => vec![0, 8, 0, 8, 0, 4, 0, 1, 24, 0],
            3 => vec![0, 12, 0, 10, 0, 8, self.id, 2, 3, 4, 5, 6, 7, 8],
            4 => vec![0, 4, 0, 10, 0, 8],
            5 => vec![0, 9, 0],
            _ => vec![0, 0],
        });
    }
}

/// What a message asks, read without pointers: a question has nothing before it that they could lead to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    /// In lower case.
    pub(super) labels: Vec<Vec<u8>>,
    pub(super) kind: u16,
    pub(super) end: usize,
    /// Octets of an answer by UDP that is made here.
    pub(super) limit: usize,
    /// What changes an answer; `None` where there are records that say nothing here.
    pub(super) essence: Option<u32>,
}

impl Read {
    /// The question of a query, or of a response.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        if word(message, 4)? != 1 {
            return None;
        }
        let (mut labels, mut at) = (Vec::new(), HEADER);
        loop {
            let len = usize::from(*message.get(at)?);
            let label = message.get(at + 1..at + 1 + len).filter(|_| len < 64)?;
            at += 1 + len;
            if at > HEADER + 255 {
                return None;
            }
            if len == 0 {
                break;
            }
            labels.push(label.to_ascii_lowercase());
        }
        let (kind, class) = (word(message, at)?, word(message, at + 2)?);
        let (size, extension) = extension(message, at + 4);
        let flags = [message[2] & 0x79, message[3] & 0x30];
        let essence = extension.map(|extension| {
            let words = [kind, class, u16::from_be_bytes(flags)];
            let octets = labels.iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat());
            let all = octets.chain(words.into_iter().flat_map(u16::to_be_bytes)).chain(extension);
            all.fold(7, |hash: u32, octet| hash.wrapping_mul(0x0100_0193) ^ u32::from(octet))
        });
        Some(Self { labels, kind, end: at + 4, limit: size.clamp(PLAIN, MOST), essence })
    }

    pub(super) fn of_query(message: &[u8]) -> Option<Self> {
        Self::of(message).filter(|_| message[2] & 0x80 == 0)
    }

    fn ends_with(&self, labels: &[&str]) -> bool {
        let from = self.labels.len().checked_sub(labels.len());
        from.is_some_and(|from| self.labels[from..].iter().zip(labels).all(|(ours, label)| ours == label.as_bytes()))
    }

    /// Whether nobody outside is to hear of it: ours is 10.88.0.0/20 and fd58::/64.
    pub(super) fn is_ours(&self) -> bool {
        let third = |number: u8| self.ends_with(&[&number.to_string(), "88", "10", "in-addr", "arpa"]);
        self.ends_with(&["vswitch", "internal"])
            || self.ends_with(&["localhost"])
            || self.labels.len() == 1 && [A, 28].contains(&self.kind)
            || (0..16).any(third)
            || self.ends_with(&["0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "8", "5", "d", "f", "ip6", "arpa"])
    }
}

/// What is behind a question: octets that its answer may have, and what of it changes the answer.
fn extension(message: &[u8], at: usize) -> (usize, Option<Vec<u8>>) {
    let counts = message.get(6..HEADER).unwrap_or_default();
    if counts == [0; 6] {
        return (PLAIN, Some(vec![0]));
    }
    let opt = message.get(at..).and_then(|rest| rest.first_chunk()).filter(|_| counts == [0, 0, 0, 0, 0, 1]);
    let Some([0, 0, 41, size_high, size_low, code, version, dnssec, zero, len_high, len_low]) = opt else { return (MOST, None) };
    let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
    let Some(mut options) = message.get(at + 11..at + 11 + len) else { return (PLAIN, None) };
    let mut subnet = false;
    while !options.is_empty() {
        let (Some(option), Some(len)) = (word(options, 0), word(options, 2)) else { return (PLAIN, None) };
        subnet |= option == SUBNET;
        let Some(rest) = options.get(4 + usize::from(len)..) else { return (PLAIN, None) };
        options = rest;
    }
    let size = usize::from(u16::from_be_bytes([*size_high, *size_low]));
    if *code != 0 || *zero != 0 {
        return (size, None);
    }
    let own = if subnet || *version != 0 { &message[at..at + 11 + len] } else { &[] };
    (size, Some([&[dnssec >> 7], own].concat()))
}

/// The mark of the question that an answer answers, if it has one.
pub(super) fn mark(message: &[u8], end: usize) -> Option<[u8; 3]> {
    let record = message.get(end..).filter(|_| word(message, 6) != Some(0))?;
    match record.get(..16)? {
        [0xc0, 0x0c, 0, 1, 0, 1, _, _, _, _, 0, 4, MARK, a, b, c] => Some([*a, *b, *c]),
        _ => None,
    }
}

pub(super) fn mark_of(essence: u32) -> [u8; 3] {
    let [_, a, b, c] = essence.to_be_bytes();
    [a, b, c]
}

/// What a resolver says to `asked`, as four octets have it.
pub(super) fn answer(asked: &[u8], [what, how, ttl, more]: [u8; 4]) -> Vec<u8> {
    let Some(read) = Read::of(asked) else { return asked.to_vec() };
    let mut message = asked[..read.end].to_vec();
    message[2] = message[2] & 0x79 | 0x80;
    message[3] = message[3] & 0x10 | 0x80 | [0, 0, 0, 0, 3, 2, 5, 4][usize::from(what & 7)];
    let ttl = [0u32, 1, 5, 60, 3_600, 604_800, 0x7fff_ffff, 0x8000_0000][usize::from(ttl & 7)].to_be_bytes();
    let (mut answers, mut authority, mut additional) = (0, 0, 0);
    let count = [1, 0, 2, 40, 200, 1, 1, 2_500][usize::from(more & 7)];
    let marks = read.essence.map_or([0; 3], mark_of);
    let first = if read.essence.is_some() { MARK } else { MARK + 1 };
    if what & 7 != 4 {
        for _ in 0..count {
            message.extend([&[0xc0, 0x0c, 0, 1, 0, 1][..], &ttl, &[0, 4, first], &marks].concat());
            answers += 1;
        }
    }
    if what & 8 != 0 {
        // A SOA record: of the root, and its last number.
        let data = [&[0, 0][..], &[0; 16], &[0, 0, 0, 30]].concat();
        message.extend([&[0, 0, 6, 0, 1][..], &ttl, &[0, data.len() as u8], &data].concat());
        authority += 1;
    }
    if what & 16 != 0 {
        message.extend([0, 0, 41, 4, 208, u8::from(how & 0xc0 == 0xc0), 0, 0, 0, 0, 0]);
        additional += 1;
    }
    if what & 32 != 0 {
        // Compressed twice, or to nowhere.
        let to = if how & 0x40 == 0 { 12 } else { 0xfe };
        message.extend([&[1, b'x', 0xc0, to, 0, 5, 0, 1][..], &ttl, &[0, 2, 0xc0, 12]].concat());
        additional += 1;
    }
    for (at, count) in [(6, answers), (8, authority), (10, additional)] {
        put(&mut message, at, count);
    }
    match how & 15 {
        1 => message[0] ^= 1,
        2 => message[2] ^= 0x80,
        3 => message[HEADER + 1] ^= 0x20,
        4 => message[HEADER + 1] ^= 1,
        5 => put(&mut message, 6, answers + 1),
        6 => message.truncate(message.len() - usize::from(ttl[3] & 15)),
        7 => message[2] |= 2,
        8 => message[read.end - 3] ^= 1,
        9 => message.extend([0; 9]),
        _ => {}
    }
    message
}
