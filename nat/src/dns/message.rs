//! DNS messages (RFC 1035 4): one question read, records walked, an answer written over its question.
//!
//! Theory. Whatever comes is judged with bounds and never copied but for the question's name, which is kept in lower case for it is compared
//! (RFC 4343). A compressed name is followed backwards only (RFC 1035 4.1.4: "a prior occurrence"), so no chain of pointers has a loop, and a
//! name ends at [`NAME`] octets. An answer lies behind its question in the same octets, and refers to the name there.
use core::ops::Range;

/// Octets of a message's header (RFC 1035 4.1.1).
pub const HEADER: usize = 12;
/// Octets of a name, and of one label, at the most (RFC 1035 3.1).
pub const NAME: usize = 255;
const LABEL: u8 = 63;
/// Labels of a name at the most: of one octet each.
const LABELS: usize = 127;
/// Octets of a question behind its name: type and class.
pub const QUESTION: usize = 4;
/// Octets of a record behind its name: type, class, TTL, length of its data.
const RECORD: usize = 10;
/// Octets of an answer to who does not say how many it takes (RFC 1035 4.2.1).
pub const PLAIN: usize = 512;
/// What we take and say we do: fits any link that IPv6 goes over.
pub const EDNS_SIZE: u16 = 1_232;

/// Of the header's third octet: it is a response.
pub const RESPONSE: u8 = 0x80;
/// What is asked for.
pub const OPCODE: u8 = 0x78;
/// Who answers has it first hand.
pub const AUTHORITATIVE: u8 = 0x04;
/// There was no room for all.
pub const TRUNCATED: u8 = 0x02;
/// Others are to be asked.
pub const RECURSION_DESIRED: u8 = 0x01;
/// Of the fourth: others can be asked.
pub const RECURSION_AVAILABLE: u8 = 0x80;
/// What is not authentic may be given too (RFC 4035 3.2.2).
pub const CHECKING_DISABLED: u8 = 0x10;
/// The response code.
pub const CODE: u8 = 0x0f;

/// Response codes (RFC 1035 4.1.1, RFC 6891 9).
#[allow(missing_docs, reason = "the names that the documents give them")]
pub mod code {
    pub const NOERROR: u8 = 0;
    pub const FORMERR: u8 = 1;
    pub const SERVFAIL: u8 = 2;
    pub const NXDOMAIN: u8 = 3;
    pub const NOTIMP: u8 = 4;
    pub const REFUSED: u8 = 5;
    /// In two parts: the upper is in the OPT record.
    pub const BADVERS: u8 = 16;
}

/// Types of records that are known here.
#[allow(missing_docs, reason = "the names that the documents give them")]
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const DNSKEY: u16 = 48;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// The Internet's class.
pub const IN: u16 = 1;
/// Any class.
pub const ANY_CLASS: u16 = 255;
/// The option of EDNS that says for whom is asked (RFC 7871).
const CLIENT_SUBNET: u16 = 8;
/// The bit of an OPT record's TTL that asks for DNSSEC (RFC 3225).
const DNSSEC: u32 = 0x8000;

/// Two octets as a number.
#[must_use]
pub fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn long(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

/// A name in wire form and lower case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    octets: [u8; NAME],
    len: u8,
    /// Where each label begins.
    starts: [u8; LABELS],
    labels: u8,
}

impl Name {
    const ROOT: Self = Self { octets: [0; NAME], len: 0, starts: [0; LABELS], labels: 0 };

    /// The name at `at`, and where what follows it begins.
    #[must_use]
    pub fn read(message: &[u8], mut at: usize) -> Option<(Self, usize)> {
        let mut name = Self::ROOT;
        let mut end = None;
        // No pointer leads to where one led before, or behind it.
        let mut before = at;
        loop {
            let first = *message.get(at)?;
            if first & 0xc0 == 0xc0 {
                let to = usize::from(word(message, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                if to >= before || to < HEADER {
                    return None;
                }
                (before, at) = (to, to);
                continue;
            }
            if first > LABEL {
                return None;
            }
            let label = message.get(at..at + 1 + usize::from(first))?;
            let place = usize::from(name.len)..usize::from(name.len) + label.len();
            name.octets.get_mut(place.clone())?.copy_from_slice(label);
            if first == 0 {
                name.len = u8::try_from(place.end).ok()?;
                name.octets.make_ascii_lowercase();
                return Some((name, end.unwrap_or(at + 1)));
            }
            *name.starts.get_mut(usize::from(name.labels))? = name.len;
            name.labels += 1;
            name.len = u8::try_from(place.end).ok()?;
            at += label.len();
        }
    }

    /// In wire form.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How many labels it has, the root's not counted.
    #[must_use]
    pub const fn labels(&self) -> usize {
        self.labels as usize
    }

    /// Where the label of that number begins, from the left; behind the last that of the root.
    #[must_use]
    pub fn start(&self, number: usize) -> usize {
        let start = self.starts.get(..self.labels()).and_then(|starts| starts.get(number));
        start.map_or(usize::from(self.len).saturating_sub(1), |start| usize::from(*start))
    }

    /// A label by its number from the left.
    #[must_use]
    pub fn label(&self, number: usize) -> Option<&[u8]> {
        let at = self.start(number);
        let len = usize::from(*self.octets().get(at)?);
        self.octets().get(at + 1..at + 1 + len).filter(|_| len > 0)
    }

    /// Whether its last labels are these.
    #[must_use]
    pub fn ends_with(&self, labels: &[&str]) -> bool {
        let Some(first) = self.labels().checked_sub(labels.len()) else { return false };
        labels.iter().zip(first..).all(|(label, number)| self.label(number) == Some(label.as_bytes()))
    }

    /// Labels of it with dots between them, in `into`; `None` where one is none of a host's.
    #[must_use]
    pub fn text<'a>(&self, labels: Range<usize>, into: &'a mut [u8; NAME]) -> Option<&'a str> {
        let mut end = 0;
        for number in labels {
            let label = self.label(number)?;
            if !label.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(octet)) {
                return None;
            }
            if end > 0 {
                *into.get_mut(end)? = b'.';
                end += 1;
            }
            into.get_mut(end..end + label.len())?.copy_from_slice(label);
            end += label.len();
        }
        core::str::from_utf8(into.get(..end)?).ok()
    }
}

/// What a client says of itself (RFC 6891 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edns {
    /// Octets that it takes.
    pub size: u16,
    /// The version.
    pub version: u8,
    /// It asks for DNSSEC.
    pub dnssec: bool,
    /// It says for whom it asks: the answer is of no use to others.
    pub subnet: bool,
}

/// A question, alone in its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The header's identifier.
    pub id: u16,
    /// Its flags.
    pub flags: [u8; 2],
    /// Whose records.
    pub name: Name,
    /// Of which type.
    pub kind: u16,
    /// Of which class.
    pub class: u16,
    /// Where it ends.
    pub end: usize,
    /// What else was said; `Err` where it cannot be read.
    pub edns: Result<Option<Edns>, Malformed>,
    /// It came by TCP: an answer has any length.
    pub by_tcp: bool,
}

/// A message, or a part of it, is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Question {
    /// That of a message with one question (RFC 9619: there is exactly one), be it a query or a response.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let (id, flags) = (word(message, 0)?, word(message, 2)?.to_be_bytes());
        if word(message, 4)? != 1 {
            return None;
        }
        // Nothing is before it that a pointer could lead to.
        let (name, at) = Name::read(message, HEADER)?;
        let (kind, class) = (word(message, at)?, word(message, at + 2)?);
        let end = at + QUESTION;
        Some(Self { id, flags, name, kind, class, end, edns: read_edns(message, end), by_tcp: false })
    }

    /// That of a query, and of no response.
    #[must_use]
    pub fn of_query(message: &[u8]) -> Option<Self> {
        Self::read(message).filter(|question| question.flags[0] & RESPONSE == 0)
    }

    /// What is asked to be done.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        self.flags[0] & OPCODE
    }

    /// Octets of an answer at the most (RFC 6891 6.2.5: less than 512 is 512).
    #[must_use]
    pub fn limit(&self) -> usize {
        if self.by_tcp {
            return usize::from(u16::MAX);
        }
        self.edns.ok().flatten().map_or(PLAIN, |edns| usize::from(edns.size).clamp(PLAIN, usize::from(EDNS_SIZE)))
    }
}

fn read_edns(message: &[u8], end: usize) -> Result<Option<Edns>, Malformed> {
    let mut found = None;
    for record in Records::new(message, end) {
        let record = record?;
        if record.kind != kind::OPT {
            continue;
        }
        // RFC 6891 6.1.1: of the root, in the additional section, and only one.
        if record.section != Section::Additional || found.is_some() || record.owner_len != 1 {
            return Err(Malformed);
        }
        let [_, version, _, _] = record.ttl.to_be_bytes();
        let subnet = has_option(message.get(record.data.clone()).ok_or(Malformed)?, CLIENT_SUBNET)?;
        found = Some(Edns { size: record.class, version, dnssec: record.ttl & DNSSEC != 0, subnet });
    }
    Ok(found)
}

fn has_option(mut options: &[u8], wanted: u16) -> Result<bool, Malformed> {
    let mut found = false;
    while !options.is_empty() {
        let (option, len) = (word(options, 0).ok_or(Malformed)?, word(options, 2).ok_or(Malformed)?);
        found |= option == wanted;
        options = options.get(4 + usize::from(len)..).ok_or(Malformed)?;
    }
    Ok(found)
}

/// The parts of a message behind its question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// What was asked.
    Answer,
    /// Who knows.
    Authority,
    /// What may be of use.
    Additional,
}

/// A record in a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// In which part it is.
    pub section: Section,
    /// Where it begins.
    pub at: usize,
    /// Octets of the name in wire form.
    pub owner_len: usize,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// Where the TTL is.
    pub ttl_at: usize,
    /// The TTL.
    pub ttl: u32,
    /// Where its data is.
    pub data: Range<usize>,
}

/// The records of a message, each once; ends with the first that is malformed.
#[derive(Debug)]
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Those behind the question that ends at `at`.
    #[must_use]
    pub fn new(message: &'a [u8], at: usize) -> Self {
        let count = |at| word(message, at).unwrap_or(0);
        Self { message, at, left: [count(6), count(8), count(10)] }
    }

    fn read(&mut self, section: Section) -> Option<Record> {
        let at = self.at;
        let (name, end) = Name::read(self.message, at)?;
        let (kind, class, ttl) = (word(self.message, end)?, word(self.message, end + 2)?, long(self.message, end + 4)?);
        let start = end + RECORD;
        let data = start..start + usize::from(word(self.message, end + 8)?);
        self.message.get(data.clone())?;
        self.at = data.end;
        Some(Record { section, at, owner_len: name.octets().len(), kind, class, ttl_at: end + 4, ttl, data })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (left, section) = self.left.iter_mut().zip(sections).find(|(left, _)| **left > 0)?;
        *left -= 1;
        let record = self.read(section);
        if record.is_none() {
            self.left = [0; 3];
        }
        Some(record.ok_or(Malformed))
    }
}

/// Puts octets one after another, up to a limit.
#[derive(Debug)]
pub struct Writer<'a> {
    octets: &'a mut [u8],
    at: usize,
    is_full: bool,
}

impl<'a> Writer<'a> {
    /// One that goes on at `at`.
    #[must_use]
    pub const fn new(octets: &'a mut [u8], at: usize) -> Self {
        Self { octets, at, is_full: false }
    }

    /// Puts them, or takes note that there is no room.
    pub fn put(&mut self, octets: &[u8]) {
        match self.octets.get_mut(self.at..self.at + octets.len()) {
            Some(place) if !self.is_full => {
                place.copy_from_slice(octets);
                self.at += octets.len();
            }
            Some(_) | None => self.is_full = true,
        }
    }

    /// A name of a message's, by a pointer to `at` in it.
    pub fn pointer(&mut self, at: usize) {
        self.put(&(0xc000 | at as u16 & 0x3fff).to_be_bytes());
    }

    /// Labels, without an end.
    pub fn labels(&mut self, text: &str) {
        for label in text.split('.') {
            match u8::try_from(label.len()) {
                Ok(len) if len <= LABEL && len > 0 => {
                    self.put(&[len]);
                    self.put(label.as_bytes());
                }
                Ok(_) | Err(_) => self.is_full = true,
            }
        }
    }

    /// A record's head behind its name, and what `data` puts as its data.
    pub fn record(&mut self, kind: u16, ttl: u32, data: impl FnOnce(&mut Self)) {
        self.put(&kind.to_be_bytes());
        self.put(&IN.to_be_bytes());
        self.put(&ttl.to_be_bytes());
        let place = self.at;
        self.put(&[0, 0]);
        data(self);
        let len = self.at.saturating_sub(place + 2);
        if let Some(octets) = self.octets.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *octets = (len as u16).to_be_bytes();
        }
    }

    /// The OPT record that answers one (RFC 6891 6.1.1, 6.1.4: DO as it was asked).
    pub fn opt(&mut self, dnssec: bool, code: u8) {
        self.put(&[0]);
        self.put(&kind::OPT.to_be_bytes());
        self.put(&EDNS_SIZE.to_be_bytes());
        let ttl = u32::from(code >> 4) << 24 | if dnssec { DNSSEC } else { 0 };
        self.put(&ttl.to_be_bytes());
        self.put(&[0, 0]);
    }

    /// Where it is, unless something did not fit.
    #[must_use]
    pub fn end(&self) -> Option<usize> {
        (!self.is_full).then_some(self.at)
    }
}

/// Makes the header of a query that of its answer: flags, code and counts of the three sections.
pub fn write_header(message: &mut [u8], authoritative: bool, code: u8, counts: [u16; 3]) {
    if let Some([_, _, asks, code_place, _, _, places @ ..]) = message.first_chunk_mut::<HEADER>() {
        *asks = RESPONSE | *asks & (OPCODE | RECURSION_DESIRED) | if authoritative { AUTHORITATIVE } else { 0 };
        // RFC 4035 3.2.2: CD as it was asked.
        *code_place = RECURSION_AVAILABLE | *code_place & CHECKING_DISABLED | code & CODE;
        for (place, octet) in places.iter_mut().zip(counts.into_iter().flat_map(u16::to_be_bytes)) {
            *place = octet;
        }
    }
}

#[cfg(test)]
mod tests;
