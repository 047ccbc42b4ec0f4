//! News: what the switch and the registry tell, to the log and to those who listen (`events`).
//!
//! A listener is a connection that was answered and stays. It never holds the daemon up: what it does not read waits in a buffer of
//! [`WAITING_OCTETS`]; what does not fit is counted, and the count is told once half of the buffer is free again. The switch collects new
//! addresses only while there is a listener.
use super::{Daemon, Session};
use crate::api::events::{Event, EventKind, SUBSCRIBERS, WAITING_OCTETS, class_name};
use crate::api::server::{ConnectionId, Server};
use crate::api::types::Answer;
use crate::errors::VerbProblem;
use anyhow::{Result, bail};
use serde_json::Value;
use std::time::{Duration, Instant};
use vswitch_nat::inspect::GuardNews;
use vswitch_switch::{DropReason, PortId, SwitchEvent};

/// How often the switch is asked how many events it lost, while there is news.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// What a listener wants, and what it missed.
pub struct Listener {
    /// Events about this container only.
    name: Option<String>,
    lost: u64,
}

impl Listener {
    fn wants(&self, event: &Event) -> bool {
        self.name.as_deref().is_none_or(|name| event.concerns(name))
    }

    fn tell(&mut self, id: ConnectionId, server: &mut Server, event: &Event) {
        self.tell_lost(id, server);
        let is_told = self.lost == 0 && server.push(id, &answer(event), WAITING_OCTETS);
        self.lost += u64::from(!is_told);
    }

    fn tell_lost(&mut self, id: ConnectionId, server: &mut Server) {
        if self.lost > 0 && server.push(id, &answer(&lost(self.lost, "you read too slowly")), WAITING_OCTETS / 2) {
            self.lost = 0;
        }
    }
}

fn lost(count: u64, why: &str) -> Event {
    Event { count: Some(count), reason: Some(format!("events lost: {why}")), ..Event::new(EventKind::Lost) }
}

fn answer(event: &Event) -> Answer {
    Answer::Ok(serde_json::to_value(event).unwrap_or_default())
}

/// What the switch lost, as far as it was told.
#[derive(Default)]
pub struct Lost {
    /// By the switch, of all time.
    seen: u64,
    /// When it is to be asked again.
    ask: Option<Instant>,
}

impl Daemon {
    /// The connection is told of events from now on.
    pub(super) fn subscribe(&mut self, id: ConnectionId, name: Option<String>) -> Result<Value> {
        if self.sessions.contains_key(&id) {
            bail!(VerbProblem::Busy);
        }
        if self.listeners() >= SUBSCRIBERS {
            bail!(VerbProblem::Subscribers);
        }
        if self.listeners() == 0 {
            self.worker.set_learned_events(true)?;
            self.lost.seen = self.worker.events_lost()?;
        }
        self.sessions.insert(id, Session::Listening(Listener { name, lost: 0 }));
        self.server.set_patience(id, None);
        super::verbs::done()
    }

    pub(super) fn listeners(&self) -> usize {
        self.sessions.values().filter(|session| matches!(session, Session::Listening(_))).count()
    }

    /// A listener's connection ended.
    pub(super) fn unsubscribed(&mut self) {
        if self.listeners() == 0 {
            self.lost.ask = None;
            if let Err(error) = self.worker.set_learned_events(false) {
                tracing::error!("{error}");
            }
        }
    }

    /// Tells all listeners that want it.
    pub(super) fn tell(&mut self, event: &Event) {
        for (id, session) in &mut self.sessions {
            if let Session::Listening(listener) = session
                && listener.wants(event)
            {
                listener.tell(*id, &mut self.server, event);
            }
        }
    }

    /// An event about a container.
    pub(super) fn tell_of(&mut self, kind: EventKind, name: &str, port: PortId, reason: Option<&str>) {
        let (name, port) = (Some(name.into()), Some(port.get()));
        self.tell(&Event { name, port, reason: reason.map(Into::into), ..Event::new(kind) });
    }

    /// News of the switch: to the log, and to listeners.
    pub(super) fn switch_event(&mut self, event: SwitchEvent) {
        if !matches!(event, SwitchEvent::Learned { .. }) && self.news.admits() {
            self.log(event);
        }
        if self.listeners() == 0 {
            return;
        }
        self.lost.ask.get_or_insert_with(|| Instant::now() + LOST_INTERVAL);
        let event = self.told(event);
        self.tell(&event);
    }

    /// A port did what the IP guard does not let it: to the log, and to listeners.
    pub(super) fn guard_news(&mut self, news: GuardNews) {
        let port = PortId::new(news.port).unwrap_or(PortId::GATEWAY);
        let owner = news.owner.and_then(PortId::new).map(|owner| self.registry.port_name(owner).to_owned());
        let is_claim = news.reason == DropReason::DuplicateClaim;
        let mut reason = if is_claim { "duplicate address claim".into() } else { format!("dropped as {}", news.reason.name()) };
        if let Some(address) = news.address {
            reason.push_str(&format!(": {address}"));
        }
        if let Some(owner) = &owner {
            reason.push_str(&format!(" is {owner}'s"));
        }
        let name = self.registry.port_name(port).to_owned();
        if self.news.admits() {
            tracing::warn!("guard: {name} (port {port}): {reason}");
        }
        if self.listeners() == 0 {
            return;
        }
        let kind = if is_claim { EventKind::Duplicate } else { EventKind::Guard };
        self.tell_of(kind, &name, port, Some(&reason));
    }

    /// As listeners are told.
    fn told(&self, event: SwitchEvent) -> Event {
        let name = |port| Some(self.registry.port_name(port).to_owned());
        let about = |kind, port: PortId| Event { name: name(port), port: Some(port.get()), ..Event::new(kind) };
        match event {
            SwitchEvent::Learned { vid, mac, port } => {
                Event { mac: Some(mac.to_string()), vlan: Some(vid.get()), ..about(EventKind::Learned, port) }
            }
            SwitchEvent::Moved { vid, mac, from, to } => Event {
                mac: Some(mac.to_string()),
                vlan: Some(vid.get()),
                from: name(from),
                to: name(to),
                ..about(EventKind::Moved, to)
            },
            SwitchEvent::Flap { vid, mac, held, seen } => Event {
                mac: Some(mac.to_string()),
                vlan: Some(vid.get()),
                from: name(held),
                to: name(seen),
                reason: Some("moves too often, held where it was".into()),
                ..about(EventKind::Flap, held)
            },
            SwitchEvent::Loop { port } => Event {
                reason: Some("a frame of ours came back through it: blocked for 30 s".into()),
                ..about(EventKind::Loop, port)
            },
            SwitchEvent::Guard { vid, mac, port } => Event {
                mac: Some(mac.to_string()),
                vlan: Some(vid.get()),
                reason: Some("not its own address".into()),
                ..about(EventKind::Guard, port)
            },
            SwitchEvent::Storm { port, class } => {
                Event { reason: Some(format!("{} beyond its budget", class_name(class))), ..about(EventKind::Storm, port) }
            }
        }
    }

    fn log(&self, event: SwitchEvent) {
        let name = |port| self.registry.port_name(port);
        match event {
            SwitchEvent::Learned { .. } => {}
            SwitchEvent::Moved { vid, mac, from, to } => {
                tracing::info!("{mac} (VLAN {vid}) moved from {} to {}", name(from), name(to));
            }
            SwitchEvent::Flap { vid, mac, held, seen } => {
                tracing::warn!("{mac} (VLAN {vid}) moves too often, held at {}, seen at {} too", name(held), name(seen));
            }
            SwitchEvent::Loop { port } => {
                tracing::warn!("loop: a frame of ours came back through {} (port {port}), blocked for 30 s", name(port));
            }
            SwitchEvent::Guard { vid, mac, port } => {
                tracing::warn!("guard: {} (port {port}) sent from {mac} (VLAN {vid}), which is not its own", name(port));
            }
            SwitchEvent::Storm { port, class } => {
                tracing::warn!("storm: {} (port {port}) floods {} beyond its budget", name(port), class_name(class));
            }
        }
    }

    /// Tells listeners what they missed, where there is room again and where the switch lost some.
    pub(super) fn tell_lost(&mut self, now: Instant) {
        for (id, session) in &mut self.sessions {
            if let Session::Listening(listener) = session {
                listener.tell_lost(*id, &mut self.server);
            }
        }
        if self.lost.ask.is_none_or(|ask| ask > now) {
            return;
        }
        self.lost.ask = None;
        let seen = self.worker.events_lost().unwrap_or(self.lost.seen);
        let count = seen.saturating_sub(std::mem::replace(&mut self.lost.seen, seen));
        if count == 0 {
            return;
        }
        let event = lost(count, "too many in a second");
        for (id, session) in &mut self.sessions {
            // Whoever asked for one container's too: some may have been about it.
            if let Session::Listening(listener) = session {
                listener.tell(*id, &mut self.server, &event);
            }
        }
    }

    /// When [`Daemon::tell_lost`] is due.
    pub(super) fn lost_deadline(&self) -> Option<Instant> {
        self.lost.ask
    }
}
