//! What one node's task has under way: dials, and requests on what they have opened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use decide::Moment;
use decide::probe::{End, Event, Path};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use rustls::pki_types::ServerName;

use super::super::connection::{Connection, Door, Many, Outcome, Question, ask_many, ask_one};
use super::{Did, Held, Node, number};

/// A server that dies resets the connections it has not taken yet: a dial that is lost is tried again so soon, and so
/// many times before the next tick.
const DIAL_AGAIN: Duration = Duration::from_millis(30);
const DIALS: u32 = 3;
/// Without an answer to a PING for so long the held connection is given up.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

impl Node {
    /// The way has changed: what comes goes over new connections, what is under way ends on the old ones.
    pub(super) fn redial(&mut self, now: Moment) {
        if let Held::Dialling { abort, .. } = &self.held {
            abort.abort();
        }
        self.held = Held::None;
        self.alone = false;
        if self.holds(&self.probe()) {
            self.dial_held(now);
        }
    }

    fn door(&self, held: bool) -> Result<Door, End> {
        let probe = self.probe();
        let tls = if probe.scheme == "https" {
            let name = ServerName::try_from(probe.server_name).map_err(|error| End::Local(error.to_string()))?;
            Some((Arc::clone(&self.way.borrow().tls), name))
        } else {
            None
        };
        let timeout = PING_TIMEOUT.min(probe.slow / 2);
        let ping = held.then_some((probe.interval.min(timeout) / 2, timeout));
        Ok(Door { address: SocketAddr::new(self.target.ip, self.target.port), tls, ping })
    }

    fn start(&self, work: impl Future<Output = Did> + Send + 'static) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let work = Abortable::new(work, registration).map(|did| did.unwrap_or(Did::Aborted));
        self.work.push(work.boxed());
        abort
    }

    pub(super) fn dial_held(&mut self, now: Moment) {
        let number = number();
        let door = self.door(true);
        let abort = self.start(async move {
            let dialled = match door {
                Ok(door) => door.dial().await,
                Err(end) => Err(end),
            };
            Did::Held(number, dialled)
        });
        self.held = Held::Dialling { number, since: now, abort };
    }

    pub(super) fn dial_own(&mut self, ids: Vec<u64>, now: Moment) {
        let (door, numbers) = (self.door(false), ids.clone());
        let abort = self.start(async move {
            let dialled = match door {
                Ok(door) => door.dial().await,
                Err(end) => Err(end),
            };
            Did::Own(numbers, now, dialled)
        });
        for id in ids {
            if let Some(asked) = self.open.get_mut(&id) {
                asked.abort = Some(abort.clone());
                asked.unseen = true;
            }
        }
    }

    fn question(&self, path: Path) -> Question {
        let probe = self.probe();
        let path = match path {
            Path::Ready => probe.path,
            Path::Alive => probe.alive_path,
        };
        Question { path, authority: probe.server_name, authorization: self.way.borrow().authorization() }
    }

    fn ask(&mut self, id: u64, sender: Many) {
        if let Some(path) = self.open.get(&id).map(|asked| asked.path) {
            let question = self.question(path);
            self.under_way(id, ask_many(sender, question));
        }
    }

    fn under_way(&mut self, id: u64, outcome: impl Future<Output = Outcome> + Send + 'static) {
        let abort = self.start(async move { Did::Asked(id, outcome.await) });
        if let Some(asked) = self.open.get_mut(&id) {
            asked.abort = Some(abort);
            asked.unseen = false;
        }
    }

    /// Sends what waits for the held connection, if that is open.
    pub(super) fn ask_waiting(&mut self) {
        let Held::Open { sender, .. } = &self.held else { return };
        let sender = sender.clone();
        for id in self.waiting() {
            self.ask(id, sender.clone());
        }
    }

    fn waiting(&self) -> Vec<u64> {
        self.open.iter().filter(|(_, asked)| asked.abort.is_none()).map(|(id, _)| *id).collect()
    }

    pub(super) fn take(&mut self, did: Did, now: Moment) {
        match did {
            Did::Held(number, dialled) => {
                if matches!(self.held, Held::Dialling { number: current, .. } if current == number) {
                    self.held = Held::None;
                    self.held_dialled(number, dialled, now);
                }
            }
            Did::Own(ids, since, dialled) => self.own_dialled(ids, since, dialled, now),
            Did::Asked(id, Outcome::Answered(answer)) => self.answered(id, answer, now),
            Did::Asked(id, Outcome::Ended(end)) => self.ended(id, end, now),
            Did::Asked(id, Outcome::Again) => self.again(id, now),
            Did::Over(number) => {
                if matches!(self.held, Held::Open { number: current, .. } if current == number) {
                    self.held = Held::None;
                    self.dial_again(now);
                }
            }
            Did::Again => self.dial_again(now),
            Did::Aborted => {}
        }
    }

    /// A request comes back from a connection that had swallowed it. It is as old as it is.
    fn again(&mut self, id: u64, now: Moment) {
        let Some(asked) = self.open.get_mut(&id) else { return };
        asked.abort = None;
        if !self.holds(&self.probe()) {
            self.dial_own(vec![id], now);
            return;
        }
        if let Held::Open { sender, .. } = &self.held
            && sender.is_closed()
        {
            self.held = Held::None;
        }
        self.dial_again(now);
        self.ask_waiting();
    }

    fn dial_again(&mut self, now: Moment) {
        if matches!(self.held, Held::None) && self.holds(&self.probe()) {
            self.dial_held(now);
        }
    }

    fn held_dialled(&mut self, number: u64, dialled: Result<Connection, End>, now: Moment) {
        let probe = self.probe();
        match dialled {
            Ok(Connection::Many(sender, task)) => {
                self.start(async move {
                    let _ = task.await;
                    Did::Over(number)
                });
                self.held = Held::Open { number, sender, to: (probe.scheme, probe.server_name) };
                self.ask_waiting();
            }
            Ok(Connection::One(_)) => {
                self.alone = true;
                for id in self.waiting() {
                    self.dial_own(vec![id], now);
                }
            }
            Err(end) => {
                self.change(now, true, |evidence| evidence.learn(Event::DialFailed(end.clone()), now, probe.slow));
                for id in self.waiting() {
                    self.ended(id, end.clone(), now);
                }
                if end == End::Lost && self.lost < DIALS {
                    self.lost += 1;
                    self.start(async {
                        tokio::time::sleep(DIAL_AGAIN).await;
                        Did::Again
                    });
                }
            }
        }
    }

    fn own_dialled(&mut self, ids: Vec<u64>, since: Moment, dialled: Result<Connection, End>, now: Moment) {
        let mut ids: Vec<u64> = ids.into_iter().filter(|id| self.open.contains_key(id)).collect();
        if let Err(end) = dialled {
            for id in ids {
                self.ended(id, end.clone(), now);
            }
            return;
        }
        // What was dialled before and hangs waits for the kernel to try again, which may take seconds. Its requests
        // know nothing that newer ones do not, so they must not hold back a green answer.
        for (id, asked) in &mut self.open {
            if asked.unseen && asked.since < since && !ids.contains(id) {
                asked.abort.iter().for_each(AbortHandle::abort);
                ids.push(*id);
            }
        }
        match dialled {
            Ok(Connection::Many(sender, _)) => {
                self.alone = false;
                for id in ids {
                    self.ask(id, sender.clone());
                }
                if let Held::Dialling { since: before, abort, .. } = &self.held
                    && *before < since
                {
                    abort.abort();
                    self.dial_held(now);
                }
            }
            Ok(Connection::One(sender)) => {
                self.alone = true;
                let mut ids = ids.into_iter();
                if let Some((id, path)) = ids.next().and_then(|id| Some((id, self.open.get(&id)?.path))) {
                    let question = self.question(path);
                    self.under_way(id, ask_one(sender, question));
                }
                for id in ids {
                    self.dial_own(vec![id], now);
                }
            }
            Err(_) => {}
        }
    }
}
