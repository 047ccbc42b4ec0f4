//! The control plane's end of the worker: each call is a job for its next breath, and waits for the answer.
use super::*;
use std::net::SocketAddr;

impl WorkerHandle {
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(&mut Worker) -> T + Send + 'static) -> Result<T, WorkerError> {
        let (answer, answered) = bounded(1);
        let job: Job = Box::new(move |worker| {
            let _ = answer.send(job(worker));
        });
        self.commands.send_timeout(job, ANSWER_TIMEOUT).map_err(|_| WorkerError)?;
        self.waker.wake().map_err(|_| WorkerError)?;
        answered.recv_timeout(ANSWER_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => WorkerError,
        })
    }

    /// Plugs a port in.
    ///
    /// # Errors
    /// The worker is gone; or [`PortError`], and the port is closed.
    pub fn add_port(&self, port: Port, config: PortConfig, mtu: u16) -> Result<Result<PortId, PortError>, WorkerError> {
        self.ask(move |worker| worker.add_port(port, config, mtu))
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Unplugs a port, if it is there. Its fd is closed some 20 ms later: [`WorkerEvent::Closed`] tells when.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn remove_port(&self, id: PortId) -> Result<Option<Ticket>, WorkerError> {
        let ticket = self.ticket();
        self.ask(move |worker| worker.close(id, ticket).then_some(ticket))
    }

    /// Asks or changes the gateway; `None` when there is none.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn gateway<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut vswitch_nat::Gateway, vswitch_switch::Time) -> T + Send + 'static,
    ) -> Result<Option<T>, WorkerError> {
        self.ask(move |worker| worker.datapath.gateway.as_mut().map(|gateway| job(gateway, clock::now())))
    }

    /// Plugs the uplink's port in, in place of the one there was, or takes it out. `mtu` is its interface's.
    ///
    /// # Errors
    /// The worker is gone; or [`PortError`], and there is no uplink.
    pub fn set_uplink(&self, port: Option<(Port, u16)>) -> Result<Result<(), PortError>, WorkerError> {
        self.ask(move |worker| {
            worker.close(PortId::UPLINK, Ticket(0));
            let Some((port, mtu)) = port else { return Ok(()) };
            worker.datapath.set_uplink(Some(port), mtu);
            worker.listen(PortId::UPLINK)
        })
    }

    /// Makes the host's sockets the uplink, or no longer: then all their flows end.
    ///
    /// # Errors
    /// The worker is gone; or nothing more can be waited for.
    pub fn set_sockets(&self, on: bool) -> Result<io::Result<()>, WorkerError> {
        self.ask(move |worker| {
            let registry = if on { Some(worker.poll.registry().try_clone()?) } else { None };
            worker.datapath.set_sockets(registry, clock::now());
            Ok(())
        })
    }

    /// The host's resolvers, in the order in which they are to be asked.
    ///
    /// # Errors
    /// The worker is gone; or nothing more can be waited for.
    pub fn set_resolvers(&self, resolvers: Vec<SocketAddr>) -> Result<io::Result<()>, WorkerError> {
        self.ask(move |worker| {
            let registry = worker.poll.registry().try_clone()?;
            worker.datapath.set_resolvers(&resolvers, registry);
            Ok(())
        })
    }

    /// Takes the bound sockets of a published port's rule.
    ///
    /// # Errors
    /// The worker is gone; or one of them is no such socket, and none was taken.
    pub fn publish_sockets(&self, rule: u32, fds: Vec<OwnedFd>) -> Result<io::Result<()>, WorkerError> {
        self.ask(move |worker| match worker.datapath.sockets_mut() {
            Some((sockets, _)) => sockets.publish(rule, fds),
            None => Ok(()),
        })
    }

    /// Asks or changes the sockets, if they are the uplink.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn sockets<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Sockets, &mut Gateway, Time) -> T + Send + 'static,
    ) -> Result<Option<T>, WorkerError> {
        self.ask(move |worker| worker.datapath.sockets_mut().map(|(sockets, gateway)| job(sockets, gateway, clock::now())))
    }

    /// Closes the sockets of a published port's rule.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn unpublish_sockets(&self, rule: u32) -> Result<(), WorkerError> {
        self.ask(move |worker| {
            if let Some((sockets, gateway)) = worker.datapath.sockets_mut() {
                sockets.unpublish(gateway, rule);
            }
        })
    }

    /// Takes from the gateway what it has for an uplink: sessions, published ports and what waits.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn clear_uplink(&self) -> Result<(), WorkerError> {
        self.ask(|worker| {
            worker.datapath.abandon_held();
            if let Some(gateway) = &mut worker.datapath.gateway {
                gateway.clear_uplink();
            }
        })
    }

    /// Changes a port.
    ///
    /// # Errors
    /// The worker is gone; or [`PortError`].
    pub fn set_port(&self, id: PortId, config: PortConfig, mtu: u16) -> Result<Result<(), PortError>, WorkerError> {
        self.ask(move |worker| worker.datapath.set_port(id, config, mtu))
    }

    /// Enters an address by hand.
    ///
    /// # Errors
    /// The worker is gone; or the table is full.
    pub fn fdb_add(&self, vid: Vid, mac: Mac, id: PortId) -> Result<Result<(), FdbError>, WorkerError> {
        self.ask(move |worker| worker.datapath.switch.fdb_mut().add_static(vid, mac, id, clock::now()))
    }

    /// Forgets an address; says whether it was known.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn fdb_del(&self, vid: Vid, mac: Mac) -> Result<bool, WorkerError> {
        self.ask(move |worker| worker.datapath.switch.fdb_mut().remove(vid, mac))
    }

    /// Forgets the dynamic addresses of one port or of all; says how many.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn fdb_flush(&self, id: Option<PortId>) -> Result<u32, WorkerError> {
        self.ask(move |worker| {
            let fdb = worker.datapath.switch.fdb_mut();
            match id {
                Some(id) => fdb.flush(id),
                None => (0..vswitch_switch::port::MAX_PORTS).filter_map(PortId::new).map(|id| fdb.flush(id)).sum(),
            }
        })
    }

    /// A page of the filtering database and the next cursor.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn fdb_page(&self, cursor: u32) -> Result<(Vec<FdbRow>, Option<u32>), WorkerError> {
        self.ask(move |worker| {
            let mut rows = Vec::new();
            let next = worker.datapath.switch.fdb().page(cursor, PAGE_SLOTS, clock::now(), |row| rows.push(row));
            (rows, next)
        })
    }

    /// Everything counted.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn stats(&self) -> Result<Stats, WorkerError> {
        self.ask(|worker| Stats { read: worker.readers.iter().map(|reader| reader.frames).collect(), ..worker.datapath.stats() })
    }

    /// News of the switch that were lost since the start, for there were too many.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn events_lost(&self) -> Result<u64, WorkerError> {
        self.ask(|worker| worker.datapath.switch.events_lost())
    }

    /// Whether new addresses are told, see [`vswitch_switch::Switch::set_learned_events`].
    ///
    /// # Errors
    /// The worker is gone.
    pub fn set_learned_events(&self, tell: bool) -> Result<(), WorkerError> {
        self.ask(move |worker| worker.datapath.switch.set_learned_events(tell))
    }

    /// Changes the switch.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn set_switch(&self, ageing: Option<Duration>, group_forward: Option<u16>) -> Result<(), WorkerError> {
        self.ask(move |worker| {
            if let Some(ageing) = ageing {
                worker.datapath.switch.fdb_mut().set_ageing(ageing);
            }
            if let Some(mask) = group_forward {
                worker.datapath.switch.set_group_forward(mask);
            }
        })
    }

    /// Changes whether requests for known addresses are answered, and whether groups without members are flooded.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn set_spread(&self, suppress: Option<bool>, flood_unregistered: Option<bool>) -> Result<(), WorkerError> {
        self.ask(move |worker| {
            if let (Some(on), Some(gateway)) = (suppress, &mut worker.datapath.gateway) {
                gateway.set_suppress(on);
            }
            if let Some(flood) = flood_unregistered {
                worker.datapath.switch.set_flood_unregistered(flood);
            }
        })
    }

    /// A page of who listens to which group, and the next cursor.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn groups_page(&self, cursor: u32) -> Result<(Vec<GroupRow>, Option<u32>), WorkerError> {
        self.ask(move |worker| {
            let mut rows = Vec::new();
            let next = worker.datapath.switch.groups_page(cursor, PAGE_SLOTS, clock::now(), |row| rows.push(row));
            (rows, next)
        })
    }

    /// Starts a mirror of a port into a file. [`WorkerEvent::MirrorEnded`] tells its end.
    ///
    /// # Errors
    /// The worker is gone; or [`MirrorError`], and the file is closed.
    pub fn start_mirror(&self, id: PortId, file: OwnedFd) -> Result<Result<Ticket, MirrorError>, WorkerError> {
        let (ticket, teller, captures) = (self.ticket(), self.teller.clone(), Arc::clone(&self.captures));
        if captures.fetch_add(1, Ordering::Relaxed) >= CAPTURE_LIMIT {
            captures.fetch_sub(1, Ordering::Relaxed);
            return Ok(Err(MirrorError::TooMany));
        }
        let ended = move |captured| {
            captures.fetch_sub(1, Ordering::Relaxed);
            teller.tell(WorkerEvent::MirrorEnded(ticket, captured));
        };
        let Ok(capture) = Capture::start(file, ended) else {
            self.captures.fetch_sub(1, Ordering::Relaxed);
            return Ok(Err(MirrorError::TooMany));
        };
        self.ask(move |worker| worker.datapath.start_capture(id, capture).map(|()| ticket).map_err(|_| MirrorError::Port))
    }

    /// Ends a port's mirror: it goes on until what it holds is written.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn end_mirror(&self, id: PortId) -> Result<(), WorkerError> {
        self.ask(move |worker| drop(worker.datapath.end_capture(id)))
    }

    /// A second fd of a port, for another process.
    ///
    /// # Errors
    /// The worker is gone; or there is no such port, or too many fds are open.
    pub fn port_fd(&self, id: PortId) -> Result<io::Result<OwnedFd>, WorkerError> {
        self.ask(move |worker| {
            let fd = worker.datapath.port(id).and_then(Port::fd).ok_or(io::ErrorKind::NotFound)?;
            fd.try_clone_to_owned()
        })
    }

    /// Plugs a port in that another process had. It is read after [`WorkerHandle::resume`].
    ///
    /// # Errors
    /// The worker is gone; or [`PortError`], and the port is closed.
    pub fn adopt_port(&self, id: PortId, port: Port, config: PortConfig, mtu: u16) -> Result<Result<(), PortError>, WorkerError> {
        self.ask(move |worker| match worker.datapath.adopt_port(id, port, config, mtu) {
            Ok(()) => worker.listen(id),
            Err((port, error)) => {
                let _ = worker.closers.try_send(Closing { port, ticket: Ticket(0) });
                Err(error)
            }
        })
    }

    /// Enters addresses that another process knew.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn adopt_fdb(&self, mut rows: Vec<FdbRow>) -> Result<(), WorkerError> {
        // The oldest first: entries expire in the order in which they were entered.
        rows.sort_by_key(|row| std::cmp::Reverse(row.age));
        self.ask(move |worker| {
            let now = clock::now();
            for row in rows {
                let seen = Time::from_nanos(now.nanos().saturating_sub(u64::try_from(row.age.as_nanos()).unwrap_or(u64::MAX)));
                let limit = worker.datapath.switch.port_config(row.port).map_or(1, |config| config.fdb_limit);
                let fdb = worker.datapath.switch.fdb_mut();
                // A table that is full leaves the rest to be learned.
                match vswitch_switch::UnicastMac::new(row.mac) {
                    Some(mac) if !row.is_static => drop(fdb.learn(row.vid, mac, row.port, limit, seen)),
                    Some(_) | None => drop(fdb.add_static(row.vid, row.mac, row.port, now)),
                }
            }
        })
    }

    /// Stops reading, sends what waits, and says what was counted: another process may go on from here.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn pause(&self) -> Result<(Carried, Vec<(PortId, PortCounters)>), WorkerError> {
        self.ask(|worker| {
            worker.paused = true;
            worker.pause_readers(clock::now());
            worker.datapath.settle(clock::now());
            let ports = worker.datapath.stats().ports;
            (worker.datapath.carried(), ports.into_iter().skip(1).map(|(id, stats)| (id, stats.counters)).collect())
        })
    }

    /// Goes on where another process ended.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn adopt(&self, carried: Carried, ports: Vec<(PortId, PortCounters)>) -> Result<(), WorkerError> {
        self.ask(move |worker| worker.datapath.adopt(&carried, &ports))
    }

    /// Reads again, or for the first time.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn resume(&self) -> Result<(), WorkerError> {
        self.ask(|worker| {
            worker.paused = false;
            worker.readers.iter().for_each(Reader::resume);
            let now = clock::now();
            for (token, event) in std::mem::take(&mut worker.missed) {
                worker.datapath.socket_event(token, event, now);
            }
        })
    }

    /// The oldest event that was not fetched, without waiting.
    #[must_use]
    pub fn next_event(&self) -> Option<WorkerEvent> {
        self.events.try_recv().ok()
    }

    /// Ends the worker, closes all ports and waits for that. Unless another process goes on with them, containers are told that their router
    /// is gone.
    pub fn stop(self) {
        let _ = self.ask(|worker| {
            if !worker.paused {
                worker.datapath.cease(clock::now());
            }
            let ports: Vec<PortId> = worker.datapath.port_ids().collect();
            for id in ports {
                worker.close(id, Ticket(0));
            }
            worker.running = false;
        });
        let _ = self.thread.join();
        let more = (CLOSERS..CLOSERS_AT_END.min(self.to_close.len()))
            .map_while(|_| closer(self.to_close.clone(), self.teller.clone()).ok());
        let more: Vec<_> = more.collect();
        for closer in self.closers.into_iter().chain(more) {
            let _ = closer.join();
        }
    }
}
