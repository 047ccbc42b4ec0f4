//! The commands.
use super::*;

impl World {
    /// Much at once, from ports of the crowd on.
    fn bulk(&mut self, what: u8, commands: &mut Commands<'_>) {
        let Some([from, more]) = commands.octets() else { return };
        if self.bulks >= BULKS {
            return;
        }
        self.bulks += 1;
        let port = 1 + u16::from(from) % CROWD;
        match what {
            // Others' questions, or the same.
            0 | 1 => {
                let (inside, gateway) = Self::ends(port, 0);
                assert_eq!(gateway.port(), PORT);
                for number in 0..=PER_CONTAINER as u16 {
                    let number = if what == 0 { 1 + number + u16::from(more) * 200 } else { 0 };
                    let wish = Wish { id: number as u8, name: 0x40 | 19, number, kind: 0, flags: 1, edns: more & 1, odd: 0 };
                    let query = wish.octets();
                    self.ask(port, (inside.port() - 40_000) as u8, &[query], Sum::Partial);
                }
            }
            2 => {
                for number in 0..=streams::PER_CONTAINER as u16 {
                    let (inside, gateway) = ((address(port), 50_000 + number).into(), (Ipv4Addr::from(GATEWAY), PORT).into());
                    self.connect(port, inside, gateway, more & 1 == 0);
                }
            }
            _ => {
                let slots: Vec<_> = self.lines.keys().copied().collect();
                for slot in slots {
                    let Some(line) = self.lines.get(&slot) else { continue };
                    let said = answer(&line.message, [from & 0x1f, 0, more, more >> 3]);
                    self.say(slot, Some(said));
                }
            }
        }
    }

    fn stations(&mut self, port: u16, what: u8) {
        match what & 7 {
            0 => self.gateway.forget(port),
            1 => self.attach(port, 0),
            2 => self.attach(port, 1),
            3 => self.gateway.stations.set_name(port, "web"),
            4 => self.gateway.stations.set_name(port, "A-Rather-Long-Name-Of-A-Container"),
            5 => self.gateway.stations.set_aliases(port, &["api.example", "web", "printer"]),
            6 => self.gateway.stations.flush(port),
            _ => {
                self.gateway.forget(port);
                self.attach(port, 0);
                self.gateway.stations.set_name(port, "db");
            }
        }
        self.forget();
    }
}

pub(super) fn step(world: &mut World, command: u8, who: u8, commands: &mut Commands<'_>) -> Option<()> {
    let port = 1 + u16::from(who) % PORTS;
    let (inside, gateway) = World::ends(port, who);
    let sum = [Sum::Partial, Sum::Right, Sum::Right, Sum::Wrong][usize::from(command & 3)];
    match command >> 4 {
        // A question, one in pieces, several in one frame, octets as they come.
        0 | 1 => {
            let query = Wish::take(commands)?.octets();
            world.ask(port, who, &[query], sum);
        }
        2 => {
            let [cut] = commands.octets()?;
            let query = Wish::take(commands)?.octets();
            world.ask_in_pieces(port, who, &query, cut.into());
        }
        3 => {
            let wish = Wish::take(commands)?;
            let numbers = wish.number..=wish.number + u16::from(command & 15);
            let queries: Vec<_> = numbers.map(|number| Wish { number: number | 0x100, ..wish }.octets()).collect();
            world.ask(port, who, &queries, Sum::Partial);
        }
        4 => {
            let message = commands.slice(command << 4 | 15).to_vec();
            world.ask(port, who, &[message], sum);
        }
        5 => {
            let octets = commands.slice(command << 4 | 15);
            let mut frame = world.buffer()?;
            if frame.fill(octets) { world.hear_any(port, frame) } else { world.pool.put(frame) }
        }
        // By TCP: a connection, something to say, some of it said, something acknowledged.
        6 => world.connect(port, inside, gateway, command & 1 == 0),
        7 => {
            let message =
                if command & 8 == 0 { Wish::take(commands)?.octets() } else { commands.slice(command << 5 | 31).to_vec() };
            let len = if command & 7 == 7 { message.len() + usize::from(who) * 20 } else { message.len() };
            if let Some(client) = world.clients.get_mut(&inside) {
                client.say(&message, len);
            }
        }
        8 => {
            let how = commands.octets()?;
            if let Some((segment, payload)) = world.clients.get_mut(&inside).and_then(|client| client.data(how)) {
                world.segment(port, (inside, gateway), &segment, &payload, sum);
            }
        }
        9 => {
            let how = commands.octets()?;
            if let Some(segment) = world.clients.get_mut(&inside).map(|client| client.answer(how)) {
                world.segment(port, (inside, gateway), &segment, &[], Sum::Partial);
            }
        }
        // A resolver answers, or says anything, or nothing.
        10 | 11 => {
            let slot = world.lines.keys().copied().nth(usize::from(who) % world.lines.len().max(1))?;
            let said = if command & 8 == 0 {
                let shape = commands.octets()?;
                world.lines.get(&slot).map(|line| answer(&line.message, shape))
            } else {
                (command & 4 == 0).then(|| commands.slice(command << 5 | 31).to_vec())
            };
            world.say(slot, said);
        }
        12 => {
            world.unreachable = if command & 8 == 0 { 0 } else { who };
            world.turn();
        }
        13 => {
            let millis = [0, 1, 500, 2_000, 5_000, 10_000, 61_000, 86_400_000][usize::from(command & 7)];
            world.now = world.now.after(Duration::from_millis(millis));
            if command & 8 == 0 {
                world.turn();
            }
        }
        14 => world.stations(port, command),
        _ => match command & 7 {
            0..=3 => world.bulk(command & 3, commands),
            4 | 5 => world.resolvers(u16::from(who) % 4),
            // What waits for the rest of it would be lost.
            _ if world.pool.outstanding() == 0 => world.gateway.set_exchange(command & 1 == 1),
            _ => {}
        },
    }
    Some(())
}
