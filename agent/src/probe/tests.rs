//! Probes against servers of this process, which fall ill one way or another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use decide::probe::{ProbeClass, Reading};
use tokio::task::JoinHandle;

use self::server::{Accept, Authority, Cut, Proxy, Say, Server};
use super::*;
use crate::host::clock;

const SOON: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(100);
const NAME: &str = "kubernetes";

/// The prober, with a handle on everything it listens to.
struct Probing {
    targets: watch::Sender<BTreeSet<Target>>,
    way: watch::Sender<Way>,
    live: watch::Sender<Arc<Settings>>,
    metrics: Metrics,
    out: watch::Receiver<Readings>,
    task: JoinHandle<()>,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(change: impl FnOnce(&mut decide::settings::Probe)) -> Settings {
    let mut settings = Settings::default();
    let probe = &mut settings.health.probe;
    (probe.interval, probe.slow, probe.timeout) = (INTERVAL, Duration::from_millis(500), Duration::from_secs(2));
    probe.enabled = true;
    change(probe);
    settings
}

fn target(address: SocketAddr) -> Target {
    Target { uid: format!("node-{}", address.port()), ip: address.ip(), port: address.port() }
}

impl Probing {
    fn start(addresses: &[SocketAddr], way: Way, settings: Settings) -> Self {
        let metrics = Metrics::new("lease", "0", "0");
        let targets = watch::Sender::new(addresses.iter().copied().map(target).collect());
        let (way, live, out) =
            (watch::Sender::new(way), watch::Sender::new(Arc::new(settings)), watch::Sender::new(Readings::default()));
        let reader = out.subscribe();
        let task = tokio::spawn(run(targets.subscribe(), way.subscribe(), live.subscribe(), metrics.clone(), out));
        Self { targets, way, live, metrics, out: reader, task }
    }

    fn reading(&self, address: SocketAddr) -> Reading {
        let slow = self.live.borrow().health.probe.slow;
        self.out.borrow().reading(&target(address), clock::now(), slow, false).unwrap_or_default()
    }

    /// Waits for a reading like this one, and gives all classes seen on the way there, each once.
    async fn until(&self, address: SocketAddr, like: impl Fn(&Reading) -> bool) -> (Reading, BTreeSet<ProbeClass>) {
        let (end, mut seen) = (Instant::now() + SOON, BTreeSet::new());
        let mut out = self.out.clone();
        loop {
            let reading = self.reading(address);
            seen.insert(reading.class);
            if like(&reading) {
                return (reading, seen);
            }
            assert!(Instant::now() < end, "last seen: {reading:?}");
            let _ = tokio::time::timeout(Duration::from_millis(10), out.changed()).await;
        }
    }

    async fn class(&self, address: SocketAddr, class: ProbeClass) -> Reading {
        self.until(address, |reading| reading.class == class).await.0
    }

    /// Waits until the node is in: fresh greens enough for requests to use the held connection.
    async fn settled(&self, address: SocketAddr) -> Reading {
        self.until(address, |reading| reading.class == ProbeClass::Green && reading.fresh_greens >= 2).await.0
    }

    /// From now on nothing is asked for a long time, unless something happens.
    async fn quiet(&self) {
        self.quiet_for(Duration::from_secs(60)).await;
    }

    async fn quiet_for(&self, long: Duration) {
        self.live.send_replace(Arc::new(settings(|probe| probe.interval = long)));
        wait("the last tick and its answers", || {
            let out = self.out.borrow();
            let open: usize = out.evidence.values().map(decide::probe::Evidence::open).sum();
            open == 0 && out.quiet_until().iter().all(|until| *until > clock::now() + long)
        })
        .await;
    }

    /// Waits for a green answer to a request that began from now on, and gives the classes seen until then.
    async fn green_again(&self, address: SocketAddr) -> BTreeSet<ProbeClass> {
        let now = clock::now();
        self.until(address, |reading| reading.green.is_some_and(|green| green.asked > now)).await.1
    }
}

async fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn trusting(authority: &Authority) -> Way {
    Way::without_kubernetes(authority.pem().as_bytes()).unwrap()
}

async fn well() -> (Authority, Server) {
    let authority = Authority::new("kubernetes");
    let server = Server::start(Accept::Tls(authority.acceptor(NAME, "h2"))).await;
    (authority, server)
}

const GREEN: [ProbeClass; 1] = [ProbeClass::Green];

#[tokio::test]
async fn one_connection_is_held_and_every_fourth_tick_has_one_of_its_own() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    let before = server.seen().len();
    wait("16 ticks", || server.seen().len() >= before + 32).await;
    let seen = server.seen().split_off(before);
    let mut by_connection: BTreeMap<usize, usize> = BTreeMap::new();
    for seen in &seen {
        *by_connection.entry(seen.connection).or_default() += 1;
    }
    let most = by_connection.values().max().copied().unwrap();
    assert!((20..=26).contains(&most), "{by_connection:?}");
    assert!((4..=6).contains(&by_connection.len()), "{by_connection:?}");
    assert!(by_connection.values().all(|count| *count == most || *count <= 2), "{by_connection:?}");
    let of = |path: &str| seen.iter().filter(|seen| seen.path == path).count();
    assert!(of("/readyz").abs_diff(of("/readyz?exclude=etcd&exclude=etcd-readiness")) <= 1);
    assert!(seen.iter().all(|seen| seen.host == NAME && seen.authorization.is_empty()), "{seen:?}");
    let text = probing.metrics.encode(crate::admin::metrics::Format::Prometheus).unwrap();
    assert!(!text.contains("probe_results_total{class=\"green\"} 0"), "{text}");
}

#[test]
fn a_tick_is_a_tenth_early_or_late_at_most() {
    let pauses = [0.0, 0.25, 0.5, 1.0].map(|random| super::node::pause(Duration::from_millis(500), random).as_millis());
    assert_eq!(pauses, [450, 475, 500, 550]);
}

#[tokio::test]
async fn no_two_nodes_stay_in_step() {
    let (authority, one) = well().await;
    let (two, three) = (
        Server::start(Accept::Tls(authority.acceptor(NAME, "h2"))).await,
        Server::start(Accept::Tls(authority.acceptor(NAME, "h2"))).await,
    );
    let addresses = [one.address, two.address, three.address];
    let probing = Probing::start(&addresses, trusting(&authority), settings(|_| ()));
    for address in addresses {
        probing.settled(address).await;
    }
    let begun = clock::now();
    let day = Duration::from_secs(24 * 3600);
    probing.quiet_for(day).await;
    // When the next tick is due, but for a day: that is when somebody looks after it.
    let due: Vec<Duration> = probing.out.borrow().quiet_until().iter().map(|until| until.since(begun + day)).collect();
    assert!(due.iter().all(|due| (day.mul_f64(0.9)..=day.mul_f64(1.1) + SOON).contains(due)), "{due:?}");
    // Without it they would be apart by no more than the ticks before.
    assert!(due.iter().any(|other| other.abs_diff(due[0]) > SOON), "{due:?}");
}

#[tokio::test]
async fn while_all_is_green_nobody_is_woken() {
    let (authority, server) = well().await;
    let mut probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    probing.out.mark_unchanged();
    let before = server.seen().len();
    wait("ten ticks", || server.seen().len() >= before + 20).await;
    assert!(!probing.out.has_changed().unwrap());
}

#[tokio::test]
async fn each_answer_has_its_class() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    let long = format!("[-]informer-sync failed: reason withheld\n{}", "x".repeat(10 << 20));
    for (status, body, class) in [
        (200, "ok", ProbeClass::Green),
        (500, "[+]ping ok\n[-]shutdown failed: reason withheld\n", ProbeClass::Shutdown),
        (200, "ok", ProbeClass::Green),
        (500, "[+]ping ok\n[-]etcd failed: reason withheld\n", ProbeClass::EtcdCut),
        (200, "ok", ProbeClass::Green),
        (500, long.as_str(), ProbeClass::Red),
        (200, "ok", ProbeClass::Green),
        (401, "Unauthorized", ProbeClass::Unknown),
        (200, "ok", ProbeClass::Green),
        (302, "", ProbeClass::Unknown),
        (503, "<html>", ProbeClass::Unknown),
    ] {
        server.say.send_replace(Say::Now(status, body.to_owned()));
        let reading = probing.class(server.address, class).await;
        assert_eq!(reading.denied_since.is_some(), status == 401, "{reading:?}");
    }
}

#[tokio::test]
async fn a_crash_is_seen_at_once_and_nobody_listening_is_refused() {
    let (authority, mut server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    // From now on only the end of the held connection can tell so soon.
    probing.quiet().await;
    let died = Instant::now();
    server.die().await;
    let reading = probing.class(server.address, ProbeClass::Refused).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?} {reading:?}", died.elapsed());
}

#[tokio::test]
async fn silence_is_silence_wherever_it_begins() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    let tls = server.accept.borrow().clone();
    probing.settled(server.address).await;
    // In the answer, both paths; then the one path that needs etcd.
    server.say.send_replace(Say::Nothing);
    probing.class(server.address, ProbeClass::Silent).await;
    server.say.send_replace(Say::NothingButAlive);
    probing.class(server.address, ProbeClass::EtcdCut).await;
    server.say.send_replace(Say::Now(200, String::new()));
    probing.settled(server.address).await;
    // In the TLS handshake.
    server.accept.send_replace(Accept::Hang);
    server.cut(Cut::Fin);
    probing.class(server.address, ProbeClass::Silent).await;
    server.accept.send_replace(tls);
    probing.settled(server.address).await;
}

#[tokio::test]
async fn a_silent_node_has_at_most_twelve_requests_open_and_is_seen_when_it_is_back() {
    let authority = Authority::new("kubernetes");
    let server = Server::start(Accept::Hang).await;
    let long = settings(|probe| probe.timeout = Duration::from_secs(60));
    let probing = Probing::start(&[server.address], trusting(&authority), long);
    probing.class(server.address, ProbeClass::Silent).await;
    wait("twenty ticks", || server.connections() >= 20).await;
    // Six ticks with a connection each, the held one, and one that the server has not seen end yet.
    assert!((6..=8).contains(&server.most_open()), "{}", server.most_open());
    server.accept.send_replace(Accept::Tls(authority.acceptor(NAME, "h2")));
    let back = Instant::now();
    // Older requests are still open, so it takes until they have made room.
    probing.settled(server.address).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

#[tokio::test]
async fn the_end_of_a_connection_is_no_evidence() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    for how in [Cut::Fin, Cut::Rst, Cut::GoAway] {
        for _ in 0..3 {
            server.cut(how);
            assert_eq!(Vec::from_iter(probing.green_again(server.address).await), GREEN, "{how:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_resets_every_new_connection_is_not_called_silent_or_refused() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    server.accept.send_replace(Accept::Reset);
    let before = server.connections();
    let (_, seen) = probing.until(server.address, |_| server.connections() > before + 20).await;
    assert_eq!(Vec::from_iter(seen), GREEN);
}

#[tokio::test]
async fn a_held_connection_that_is_swallowed_is_replaced_before_the_node_looks_silent() {
    let (authority, server) = well().await;
    let proxy = Proxy::start(server.address).await;
    let probing = Probing::start(&[proxy.address], trusting(&authority), settings(|_| ()));
    probing.settled(proxy.address).await;
    for _ in 0..3 {
        proxy.forget();
        let before = server.seen().len();
        let (_, seen) = probing
            .until(proxy.address, |_| {
                let seen = server.seen().split_off(before);
                let on_one = |connection| seen.iter().filter(|seen| seen.connection == connection).count();
                seen.iter().any(|seen| on_one(seen.connection) >= 6)
            })
            .await;
        assert_eq!(Vec::from_iter(seen), GREEN);
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_no_evidence_of_a_fault() {
    let authority = Authority::new("kubernetes");
    let other = Authority::new("other");
    for (signer, name, word) in [(&other, NAME, "UnknownIssuer"), (&authority, "example.com", "not valid for name")] {
        let server = Server::start(Accept::Tls(signer.acceptor(name, "h2"))).await;
        let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
        let (reading, _) = probing.until(server.address, |reading| reading.denied_since.is_some()).await;
        assert_eq!(reading.class, ProbeClass::Unknown);
        assert!(reading.found.contains(word), "{reading:?}");
        assert!(server.seen().is_empty(), "nothing was asked over a connection that is not verified");
    }
}

#[tokio::test]
async fn http_1_and_plain_http_have_a_connection_for_each_request() {
    let authority = Authority::new("kubernetes");
    for (accept, scheme) in [(Accept::Tls(authority.acceptor(NAME, "http/1.1")), "https"), (Accept::Plain, "http")] {
        let server = Server::start(accept).await;
        let scheme = settings(|probe| scheme.clone_into(&mut probe.scheme));
        let probing = Probing::start(&[server.address], trusting(&authority), scheme);
        probing.settled(server.address).await;
        wait("ten ticks", || server.seen().len() >= 20).await;
        let seen = server.seen();
        let connections: BTreeSet<usize> = seen.iter().map(|seen| seen.connection).collect();
        assert_eq!(connections.len(), seen.len());
        assert!(seen.iter().all(|seen| seen.host == NAME), "{seen:?}");
        server.say.send_replace(Say::Now(500, "[-]etcd failed".to_owned()));
        probing.class(server.address, ProbeClass::EtcdCut).await;
    }
}

#[tokio::test]
async fn without_holding_every_tick_has_a_connection_of_its_own() {
    let (authority, server) = well().await;
    let loose = settings(|probe| probe.hold_connection = false);
    let probing = Probing::start(&[server.address], trusting(&authority), loose);
    probing.settled(server.address).await;
    wait("ten ticks", || server.seen().len() >= 20).await;
    let (seen, connections) = (server.seen().len(), server.connections());
    assert!(connections >= seen / 2, "{seen} requests over {connections} connections");
}

#[tokio::test]
async fn the_authority_changes_from_old_to_both_to_new_and_all_stays_green() {
    let (old, server) = well().await;
    let new = Authority::new("kubernetes-2");
    let probing = Probing::start(&[server.address], trusting(&old), settings(|_| ()));
    probing.settled(server.address).await;
    let both = old.pem() + &new.pem();
    let before = server.connections();
    probing.way.send_replace(Way::without_kubernetes(both.as_bytes()).unwrap());
    assert_eq!(Vec::from_iter(probing.green_again(server.address).await), GREEN);
    wait("a new connection", || server.connections() > before).await;
    server.accept.send_replace(Accept::Tls(new.acceptor(NAME, "h2")));
    server.cut(Cut::GoAway);
    assert_eq!(Vec::from_iter(probing.green_again(server.address).await), GREEN);
    probing.way.send_replace(trusting(&new));
    assert_eq!(Vec::from_iter(probing.green_again(server.address).await), GREEN);
    assert!(probing.reading(server.address).denied_since.is_none());
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes_and_the_last_token_stays_when_it_is_gone() {
    let (authority, server) = well().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let write = |token: &str| {
        std::fs::write(file.with_extension("new"), token).unwrap();
        std::fs::rename(file.with_extension("new"), &file).unwrap();
    };
    write("first\n");
    let mut config = kube::Config::new("https://localhost".parse().unwrap());
    config.root_cert = Some(vec![pem::parse(authority.pem()).unwrap().into_contents()]);
    config.auth_info.token_file = Some(file.display().to_string());
    let way = Way::from_config(&config).unwrap();
    assert_eq!(format!("{way:?} {:?}", way.authorization()), "Way(****) Some(Sensitive)");
    let probing = Probing::start(&[server.address], way, settings(|_| ()));
    probing.settled(server.address).await;
    let last = |token: &str| server.seen().last().is_some_and(|seen| seen.authorization == format!("Bearer {token}"));
    wait("the first token", || last("first")).await;
    write("second");
    wait("the second token", || last("second")).await;
    std::fs::remove_file(&file).unwrap();
    let before = server.seen().len();
    wait("more requests", || server.seen().len() > before + 4).await;
    assert!(last("second"));
}

#[tokio::test]
async fn a_suspicion_wakes_the_others() {
    let (authority, ill) = well().await;
    let witness = Server::start(Accept::Tls(authority.acceptor(NAME, "h2"))).await;
    let probing = Probing::start(&[ill.address, witness.address], trusting(&authority), settings(|_| ()));
    probing.settled(ill.address).await;
    probing.settled(witness.address).await;
    probing.quiet().await;
    let mut ill = ill;
    let died = clock::now();
    ill.die().await;
    probing.class(ill.address, ProbeClass::Refused).await;
    let (reading, _) =
        probing.until(witness.address, |reading| reading.green.is_some_and(|green| green.asked > died)).await;
    let took = reading.green.unwrap().came.since(died);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_prober_that_was_stopped_takes_its_own_pause_for_nobodys_silence() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    for milliseconds in [700, 1500, 3000] {
        server.say.send_replace(Say::After(Duration::from_millis(50)));
        let before = server.seen().len();
        wait("requests under way", || server.seen().len() > before).await;
        // The whole runtime stands still, the readers included.
        std::thread::sleep(Duration::from_millis(milliseconds));
        assert_eq!(Vec::from_iter(probing.green_again(server.address).await), GREEN);
    }
}

#[tokio::test]
async fn who_goes_is_asked_no_more_and_switched_off_nobody_is() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    probing.targets.send_replace(BTreeSet::new());
    wait("forgetting", || probing.out.borrow().evidence.is_empty()).await;
    probing.targets.send_replace(BTreeSet::from([target(server.address)]));
    probing.settled(server.address).await;
    probing.live.send_replace(Arc::new(settings(|probe| probe.enabled = false)));
    wait("forgetting", || probing.out.borrow().evidence.is_empty()).await;
}

#[test]
fn a_kubeconfig_that_runs_a_program_is_refused_with_the_reason() {
    let mut config = kube::Config::new("https://localhost".parse().unwrap());
    config.auth_info.username = Some("me".to_owned());
    let error = Way::from_config(&config).unwrap_err();
    assert!(error.to_string().ends_with("the kubeconfig names a user with a password"), "{error}");
}

#[tokio::test]
async fn who_has_just_lost_its_etcd_is_asked_four_times_as_often() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    let seldom = Duration::from_secs(4);
    probing.live.send_replace(Arc::new(settings(|probe| probe.interval = seldom)));
    server.say.send_replace(Say::Now(500, "[-]etcd failed".to_owned()));
    probing.class(server.address, ProbeClass::EtcdCut).await;
    let (before, cut) = (server.seen().len(), Instant::now());
    wait("the next tick", || server.seen().len() >= before + 2).await;
    let after = cut.elapsed();
    assert!(after < seldom * 3 / 4, "{after:?}");
}

#[tokio::test]
async fn one_slow_request_of_a_server_that_lives_brings_the_next_closer() {
    let (authority, server) = well().await;
    let probing = Probing::start(&[server.address], trusting(&authority), settings(|_| ()));
    probing.settled(server.address).await;
    probing.live.send_replace(Arc::new(settings(|probe| {
        (probe.interval, probe.slow, probe.timeout) = (Duration::from_secs(2), Duration::from_millis(2_600), SOON);
    })));
    server.say.send_replace(Say::NothingButAlive);
    let before = server.seen().len();
    // The second tick shows that it lives. The next are due before there are two slow requests, which name the cut.
    wait("four ticks", || server.seen().len() >= before + 8).await;
    assert_eq!(probing.reading(server.address).class, ProbeClass::Green);
    probing.class(server.address, ProbeClass::EtcdCut).await;
}

#[tokio::test]
async fn while_one_has_lost_its_etcd_the_others_are_asked_more_often_as_well() {
    let (authority, ill) = well().await;
    let witness = Server::start(Accept::Tls(authority.acceptor(NAME, "h2"))).await;
    let seldom = Duration::from_secs(2);
    let probing = Probing::start(&[ill.address, witness.address], trusting(&authority), settings(|_| ()));
    probing.settled(ill.address).await;
    probing.settled(witness.address).await;
    probing.live.send_replace(Arc::new(settings(|probe| probe.interval = seldom)));
    ill.say.send_replace(Say::Now(500, "[-]etcd failed".to_owned()));
    probing.class(ill.address, ProbeClass::EtcdCut).await;
    let (before, cut) = (witness.seen().len(), Instant::now());
    // The first is due to the suspicion itself.
    wait("three ticks", || witness.seen().len() >= before + 6).await;
    let after = cut.elapsed();
    assert!(after < seldom * 3 / 4, "{after:?}");
}
