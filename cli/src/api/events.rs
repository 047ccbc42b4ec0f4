//! What `events` tells, one JSON object a line.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use vswitch_switch::storm::FloodClass;

/// Connections that are told of events at the most.
pub const SUBSCRIBERS: usize = 16;
/// Octets that wait for one of them at the most; what comes beyond is counted, and the count told.
pub const WAITING_OCTETS: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    Attached,
    Detached,
    /// An address is new.
    Learned,
    /// An address moved to another port.
    Moved,
    /// An address moves too often and is held.
    Flap,
    /// A port sent from an address that is not its own.
    Guard,
    /// A port claimed an IP address that another one has.
    Duplicate,
    /// A port floods more than its budget.
    Storm,
    /// A port is blocked: a frame of ours came back through it.
    Loop,
    /// The uplink's interface went or came back, or its router is silent or answers again.
    Uplink,
    /// A route of the host begins to lead where the network is, or no longer does.
    Collision,
    /// Another daemon took over (told by the command line, which connects again).
    Restart,
    /// So many events were not told, for they came too fast.
    Lost,
}

impl EventKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Learned => "learned",
            Self::Moved => "moved",
            Self::Flap => "flap",
            Self::Guard => "guard",
            Self::Duplicate => "duplicate",
            Self::Storm => "storm",
            Self::Loop => "loop",
            Self::Uplink => "uplink",
            Self::Collision => "collision",
            Self::Restart => "restart",
            Self::Lost => "lost",
        }
    }
}

/// What a class of flood is called.
pub const fn class_name(class: FloodClass) -> &'static str {
    match class {
        FloodClass::Broadcast => "broadcast",
        FloodClass::Multicast => "multicast",
        FloodClass::Unknown => "unknown unicast",
    }
}

/// An event. What does not belong to its kind is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339, UTC.
    pub time: String,
    pub event: EventKind,
    /// The container it is about; of one that moved, where it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Event {
    /// One of now that says nothing more yet.
    pub fn new(event: EventKind) -> Self {
        let time = rfc3339(SystemTime::now());
        Self { time, event, name: None, port: None, mac: None, vlan: None, from: None, to: None, reason: None, count: None }
    }

    /// Whether it is about a container.
    pub fn concerns(&self, name: &str) -> bool {
        [&self.name, &self.from, &self.to].into_iter().any(|of| of.as_deref() == Some(name))
    }
}

/// For people: a line that begins with time and kind.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:<8}", self.time, self.event.name())?;
        if let Some(name) = &self.name {
            write!(f, "  {name}")?;
        }
        if let Some(port) = self.port {
            write!(f, " (port {port})")?;
        }
        if let Some(mac) = &self.mac {
            write!(f, "  {mac}")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, " VLAN {vlan}")?;
        }
        if let Some(from) = &self.from {
            write!(f, "  from {from}")?;
        }
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(count) = self.count {
            write!(f, "  {count}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, "  {reason}")?;
        }
        Ok(())
    }
}

/// A point in time as RFC 3339 writes it, in UTC, with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, milliseconds) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is a
/// year's last, in eras of 400 years, which all have the same days.
const fn civil(day: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let (era, day) = (day / DAYS_OF_ERA, day % DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March is 0; 153 days have five months from March or August on.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn what_does_not_belong_is_left_out() {
        let time = "2024-02-29T12:34:56.007Z".to_owned();
        let moved = Event {
            time: time.clone(),
            name: Some("web".into()),
            port: Some(2),
            mac: Some("02:58:0a:58:00:02".into()),
            vlan: Some(1),
            from: Some("db".into()),
            to: Some("web".into()),
            ..Event::new(EventKind::Moved)
        };
        let json = serde_json::to_string(&moved).unwrap();
        assert_eq!(
            json,
            r#"{"time":"2024-02-29T12:34:56.007Z","event":"moved","name":"web","port":2,"mac":"02:58:0a:58:00:02","vlan":1,"from":"db","to":"web"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), moved);
        assert_eq!(moved.to_string(), "2024-02-29T12:34:56.007Z  moved     web (port 2)  02:58:0a:58:00:02 VLAN 1  from db to web");
        assert!(moved.concerns("web") && moved.concerns("db") && !moved.concerns("we"));
        let lost = Event { time, count: Some(7), reason: Some("events lost".into()), ..Event::new(EventKind::Lost) };
        assert_eq!(lost.to_string(), "2024-02-29T12:34:56.007Z  lost      7  events lost");
    }
}
