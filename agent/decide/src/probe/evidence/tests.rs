mod living;

use super::*;
use proptest::prelude::*;

const SLOW: Duration = Duration::from_secs(1);

/// One API server and its prober, in milliseconds.
#[derive(Default)]
struct Scene {
    evidence: Evidence,
    ids: u64,
}

impl Scene {
    /// A node that has been green on both paths.
    fn green() -> Self {
        let mut scene = Self::default();
        scene.round(0, 1, Answer::Green, Answer::Green);
        scene
    }

    fn learn(&mut self, event: Event, at: u64) {
        self.evidence.learn(event, ms(at), SLOW);
    }

    fn send(&mut self, path: Path, at: u64, fresh: bool) -> u64 {
        self.ids += 1;
        self.learn(Event::Sent(Request { id: self.ids, path, fresh }), at);
        self.ids
    }

    fn answered(&mut self, path: Path, sent: u64, came: u64, answer: Answer) {
        let id = self.send(path, sent, false);
        self.learn(Event::Answered(id, answer), came);
    }

    fn round(&mut self, sent: u64, came: u64, ready: Answer, alive: Answer) {
        self.answered(Path::Ready, sent, came, ready);
        self.answered(Path::Alive, sent, came, alive);
    }

    fn at(&self, now: u64) -> Reading {
        self.evidence.reading(ms(now), SLOW, false)
    }

    fn class(&self, now: u64) -> ProbeClass {
        self.at(now).class
    }

    fn hurried(&self, now: u64) -> ProbeClass {
        self.evidence.reading(ms(now), SLOW, true).class
    }
}

fn ms(millis: u64) -> Moment {
    Moment(Duration::from_secs(1000) + Duration::from_millis(millis))
}

fn failing() -> Answer {
    Answer::Failing("informer-sync".to_owned())
}

#[test]
fn nothing_is_known_before_the_first_answer() {
    let scene = Scene::default();
    let reading = scene.at(10_000);
    assert_eq!((reading.class, reading.answered, reading.green), (ProbeClass::Unknown, false, None));
}

#[test]
fn a_200_is_green() {
    let scene = Scene::green();
    let reading = scene.at(1);
    assert_eq!(reading.class, ProbeClass::Green);
    assert_eq!(reading.green, Some(Green { asked: ms(0), came: ms(1) }));
}

#[test]
fn shutdown_counts_at_the_first_word() {
    for path in [Path::Ready, Path::Alive] {
        let mut scene = Scene::green();
        scene.answered(path, 500, 501, Answer::Shutdown);
        assert_eq!((scene.class(501), scene.at(501).since), (ProbeClass::Shutdown, ms(500)));
    }
}

#[test]
fn a_shutdown_that_goes_on_began_with_its_first_word() {
    // Else evidence that has to be three seconds old would never be: it is told twice a second.
    let mut scene = Scene::green();
    for at in [500, 1000, 1500] {
        scene.answered(Path::Ready, at, at + 1, Answer::Shutdown);
    }
    assert_eq!((scene.class(1501), scene.at(1501).since), (ProbeClass::Shutdown, ms(500)));
}

#[test]
fn one_failing_answer_is_a_blip_and_two_within_three_seconds_are_red() {
    for (second, class) in [(1000, ProbeClass::Red), (3500, ProbeClass::Red), (3501, ProbeClass::Green)] {
        let mut scene = Scene::green();
        scene.answered(Path::Ready, 500, 501, failing());
        assert_eq!(scene.class(501), ProbeClass::Green);
        scene.answered(Path::Ready, second, second + 1, failing());
        assert_eq!(scene.class(second + 1), class, "{second}");
    }
}

#[test]
fn both_paths_failing_in_one_round_are_still_one_blip() {
    let mut scene = Scene::green();
    scene.round(500, 501, failing(), failing());
    assert_eq!(scene.class(501), ProbeClass::Green);
    scene.answered(Path::Alive, 1000, 1001, failing());
    assert_eq!((scene.class(1001), scene.at(1001).since), (ProbeClass::Red, ms(500)));
}

#[test]
fn red_stays_until_it_is_green() {
    let mut scene = Scene::green();
    for at in [500, 1000, 9000] {
        scene.answered(Path::Ready, at, at + 1, failing());
    }
    assert_eq!((scene.class(9001), scene.at(9001).since), (ProbeClass::Red, ms(500)));
    scene.answered(Path::Ready, 9500, 9501, Answer::Green);
    assert_eq!(scene.class(9501), ProbeClass::Green);
    scene.answered(Path::Ready, 9600, 9601, failing());
    assert_eq!(scene.class(9601), ProbeClass::Green, "the count starts over");
}

#[test]
fn an_answer_that_names_etcd_is_a_cut() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 500, 4500, Answer::Etcd);
    assert_eq!((scene.class(4500), scene.at(4500).since), (ProbeClass::EtcdCut, ms(500)));
    scene.answered(Path::Ready, 5000, 5001, failing());
    assert_eq!(scene.class(5001), ProbeClass::EtcdCut, "one more blip does not make it well");
    scene.answered(Path::Ready, 6000, 6001, Answer::Green);
    assert_eq!(scene.class(6001), ProbeClass::Green);
}

/// A kube-apiserver answers from its last check while the requests before that still wait for theirs.
#[test]
fn a_cut_began_with_the_first_request_that_was_slow_whichever_is_answered_first() {
    let mut scene = Scene::green();
    for at in [500, 1000] {
        scene.send(Path::Ready, at, false);
        scene.answered(Path::Alive, at, at + 1, Answer::Green);
    }
    scene.answered(Path::Ready, 2500, 2501, Answer::Etcd);
    let reading = scene.at(2600);
    assert_eq!((reading.class, reading.since, reading.until), (ProbeClass::EtcdCut, ms(500), ms(2600)));
}

/// The one request that waits for etcd in earnest is seldom, so what it has seen must not be lost with its answer.
#[test]
fn a_cut_is_known_until_the_end_of_a_request_that_was_slow_and_until_the_beginning_of_one_that_was_not() {
    let mut scene = Scene::green();
    let slow = scene.send(Path::Ready, 500, false);
    for at in [1000, 1500, 2000] {
        scene.answered(Path::Alive, at, at + 1, Answer::Green);
    }
    scene.learn(Event::Answered(slow, Answer::Etcd), 2500);
    let reading = scene.at(2600);
    assert_eq!((reading.class, reading.since, reading.until), (ProbeClass::EtcdCut, ms(500), ms(2500)));
    scene.answered(Path::Ready, 2700, 3699, Answer::Etcd);
    assert_eq!(scene.at(3699).until, ms(2700));
}

#[test]
fn alive_and_two_slow_are_a_cut() {
    let mut scene = Scene::green();
    for at in [500, 1000] {
        scene.send(Path::Ready, at, false);
        scene.answered(Path::Alive, at, at + 1, Answer::Green);
    }
    assert_eq!(scene.class(1999), ProbeClass::Green, "one is slow");
    assert_eq!((scene.class(2000), scene.at(2000).since), (ProbeClass::EtcdCut, ms(500)));
    assert_eq!(scene.hurried(1500), ProbeClass::EtcdCut);
    assert_eq!(scene.at(3210).until, ms(3210), "they wait still");
}

#[test]
fn both_paths_slow_are_silence_unless_the_path_is_broken() {
    let mut scene = Scene::green();
    for at in [500, 1000] {
        scene.send(Path::Ready, at, false);
        scene.send(Path::Alive, at, false);
    }
    assert_eq!(scene.class(1999), ProbeClass::Green);
    assert_eq!(scene.hurried(1500), ProbeClass::Silent);
    assert_eq!((scene.class(2000), scene.at(2000).since), (ProbeClass::Silent, ms(500)));
    assert_eq!(scene.at(1400).next, Some(ms(1500)));
    scene.evidence.mute_silence();
    assert_ne!(scene.class(2000), ProbeClass::Silent);
}

#[test]
fn silence_outlives_the_requests_that_were_given_up() {
    let mut scene = Scene::green();
    let mut ids = Vec::new();
    for at in [500, 1000] {
        ids.push(scene.send(Path::Ready, at, false));
        ids.push(scene.send(Path::Alive, at, false));
    }
    for id in ids {
        scene.learn(Event::Ended(id, End::GivenUp), 7000);
    }
    assert_eq!((scene.class(7000), scene.at(7000).since), (ProbeClass::Silent, ms(500)));
}

#[test]
fn a_slow_answer_counts_when_it_comes() {
    let mut scene = Scene::green();
    let ids: Vec<u64> = [500, 1000].map(|at| scene.send(Path::Ready, at, false)).into();
    let alive: Vec<u64> = [500, 1000].map(|at| scene.send(Path::Alive, at, false)).into();
    assert_eq!(scene.class(2000), ProbeClass::Silent);
    for id in alive.into_iter().chain(ids) {
        scene.learn(Event::Answered(id, Answer::Green), 2500);
    }
    assert_eq!(scene.class(2500), ProbeClass::Green);
}

#[test]
fn a_200_from_a_cache_resets_nothing_while_an_older_request_waits() {
    let mut scene = Scene::green();
    for at in [500, 1000] {
        scene.send(Path::Ready, at, false);
        scene.answered(Path::Alive, at, at + 1, Answer::Green);
    }
    scene.answered(Path::Ready, 1500, 1501, Answer::Green);
    assert_eq!(scene.class(2000), ProbeClass::EtcdCut);
    assert_eq!(scene.at(2000).green.map(|green| green.came), Some(ms(1)), "nor is it a witness");
}

#[test]
fn only_new_connections_hanging_is_seen_although_the_held_one_answers() {
    let mut scene = Scene::green();
    for round in 1..=8 {
        let at = round * 500;
        if round % 4 == 1 {
            scene.send(Path::Ready, at, true);
            scene.send(Path::Alive, at, true);
        } else {
            scene.round(at, at + 2, Answer::Green, Answer::Green);
        }
    }
    assert_ne!(scene.class(3500), ProbeClass::Green);
}

#[test]
fn the_end_of_a_connection_is_no_evidence_and_a_refused_dial_is() {
    let mut scene = Scene::green();
    let id = scene.send(Path::Ready, 500, false);
    scene.learn(Event::Ended(id, End::Lost), 501);
    scene.learn(Event::DialFailed(End::Lost), 502);
    assert_eq!(scene.class(502), ProbeClass::Green);
    scene.learn(Event::DialFailed(End::Refused), 503);
    scene.learn(Event::DialFailed(End::Refused), 900);
    assert_eq!((scene.class(900), scene.at(900).since), (ProbeClass::Refused, ms(503)));
}

#[test]
fn no_route_is_silence() {
    let mut scene = Scene::green();
    let id = scene.send(Path::Ready, 500, true);
    scene.learn(Event::Ended(id, End::Unreachable), 510);
    assert_eq!((scene.class(510), scene.at(510).since), (ProbeClass::Silent, ms(510)));
}

#[test]
fn what_says_nothing_about_the_node_is_unknown_and_takes_nothing_back() {
    let odd = || [Answer::Denied(401), Answer::Denied(403), Answer::Other(429), Answer::Other(502)];
    for answer in odd() {
        let mut scene = Scene::green();
        scene.answered(Path::Ready, 500, 501, answer);
        assert_eq!(scene.class(501), ProbeClass::Unknown);
        scene.learn(Event::DialFailed(End::Refused), 600);
        assert_eq!(scene.class(600), ProbeClass::Refused);
    }
    for answer in odd() {
        let mut scene = Scene::green();
        scene.learn(Event::DialFailed(End::Refused), 400);
        scene.answered(Path::Ready, 500, 501, answer);
        assert_eq!(scene.class(501), ProbeClass::Refused);
    }
}

#[test]
fn a_refused_credential_is_remembered_from_its_first_time_until_green() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 500, 501, Answer::Denied(401));
    scene.learn(Event::DialFailed(End::Tls("unknown issuer".to_owned())), 1000);
    scene.answered(Path::Ready, 1500, 1501, Answer::Other(429));
    assert_eq!(scene.at(1501).denied_since, Some(ms(500)));
    scene.answered(Path::Ready, 2000, 2001, Answer::Green);
    assert_eq!(scene.at(2001).denied_since, None);
}

#[test]
fn a_prober_that_overslept_throws_its_silence_away() {
    let mut scene = Scene::green();
    for at in [500, 1000] {
        scene.send(Path::Ready, at, false);
        scene.send(Path::Alive, at, false);
    }
    let given_up = scene.send(Path::Ready, 1100, false);
    scene.learn(Event::Ended(given_up, End::GivenUp), 7100);
    scene.evidence.overslept();
    assert_eq!(scene.class(90_000), ProbeClass::Green);
    // What comes after it counts again.
    for at in [90_000, 90_500] {
        scene.send(Path::Ready, at, false);
        scene.send(Path::Alive, at, false);
    }
    assert_eq!(scene.class(91_500), ProbeClass::Silent);
}

#[test]
fn greens_on_their_own_connections_are_counted_until_anything_else() {
    let mut scene = Scene::default();
    assert!(scene.evidence.wants_fresh(2, 1));
    for at in [0, 500] {
        let id = scene.send(Path::Ready, at, true);
        scene.learn(Event::Answered(id, Answer::Green), at + 5);
    }
    assert_eq!(scene.at(505).fresh_greens, 2);
    assert!(!scene.evidence.wants_fresh(2, 1) && scene.evidence.wants_fresh(2, 4));
    for spoiled in [failing(), Answer::Etcd, Answer::Shutdown, Answer::Denied(403), Answer::Other(429)] {
        let mut scene = Scene::default();
        let id = scene.send(Path::Ready, 0, true);
        scene.learn(Event::Answered(id, Answer::Green), 5);
        scene.answered(Path::Ready, 500, 501, spoiled.clone());
        assert_eq!(scene.at(501).fresh_greens, 0, "{spoiled:?}");
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
    prop::collection::vec((0u8..2, 0u8..9, 0u64..1500), 0..40)
}

proptest! {
    /// Whatever has happened: once everything that is open has ended, a green answer makes it green.
    #[test]
    fn a_green_answer_with_nothing_older_open_always_makes_it_green(steps in steps()) {
        let mut scene = Scene::default();
        let mut now = 0;
        let mut open = Vec::new();
        for (path, what, pause) in steps {
            now += pause;
            let path = if path == 0 { Path::Ready } else { Path::Alive };
            let id = scene.send(path, now, what % 2 == 0);
            let event = match what {
                0 => Event::Answered(id, Answer::Green),
                1 => Event::Answered(id, Answer::Etcd),
                2 => Event::Answered(id, failing()),
                3 => Event::Answered(id, Answer::Denied(401)),
                4 => Event::Ended(id, End::Refused),
                5 => Event::Ended(id, End::Unreachable),
                6 => Event::Ended(id, End::Tls("x".to_owned())),
                _ => { open.push(id); continue }
            };
            scene.learn(event, now);
        }
        for id in open {
            scene.learn(Event::Ended(id, End::GivenUp), now);
        }
        scene.answered(Path::Ready, now + 1, now + 2, Answer::Green);
        prop_assert_eq!(scene.class(now + 2), ProbeClass::Green);
        prop_assert_eq!(scene.evidence.open(), 0);
    }

    /// Time alone never turns silence on while nothing is asked.
    #[test]
    fn no_request_no_silence(later in 0u64..10_000_000) {
        prop_assert_eq!(Scene::green().class(later), ProbeClass::Green);
    }
}

#[test]
fn a_run_of_greens_begins_anew_after_anything_else() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 500, 501, Answer::Green);
    assert_eq!(scene.at(600).green_since, Some(ms(0)));
    // Slow, and ended without a word.
    let id = scene.send(Path::Ready, 1000, false);
    scene.learn(Event::Ended(id, End::GivenUp), 2100);
    scene.answered(Path::Ready, 2200, 2201, Answer::Green);
    assert_eq!(scene.at(2300).green_since, Some(ms(2200)));
    scene.learn(Event::DialFailed(End::Refused), 2400);
    scene.answered(Path::Ready, 2500, 2501, Answer::Green);
    assert_eq!(scene.at(2600).green_since, Some(ms(2500)));
}

#[test]
fn the_others_are_waited_for_as_long_as_its_own_trouble_took_and_three_seconds() {
    let mut scene = Scene::green();
    let back = |scene: &Scene, now: u64| scene.at(now).others_back;
    // What was before it was asked first is not known.
    assert_eq!(back(&scene, 600), Some(ms(20_000)));
    let trouble = |scene: &mut Scene, from: u64, to: u64| {
        scene.answered(Path::Ready, from, from + 1, Answer::Etcd);
        scene.answered(Path::Ready, to, to + 1, Answer::Green);
    };
    scene.answered(Path::Ready, 30_000, 30_001, Answer::Green);
    trouble(&mut scene, 30_500, 32_500);
    assert_eq!(back(&scene, 32_600), Some(ms(32_500 + 3_000 + 2_500)));
    // Again before that is over: one trouble.
    scene.answered(Path::Ready, 37_999, 38_000, Answer::Green);
    trouble(&mut scene, 38_500, 39_000);
    assert_eq!(back(&scene, 39_100), Some(ms(39_000 + 3_000 + 9_000)));
    // And when it was over: another one.
    scene.answered(Path::Ready, 51_000, 51_001, Answer::Green);
    trouble(&mut scene, 51_500, 52_000);
    assert_eq!(back(&scene, 52_100), Some(ms(52_000 + 3_000 + 1_000)));
    // No longer than for those of whom nothing is known.
    scene.answered(Path::Ready, 60_000, 60_001, Answer::Green);
    trouble(&mut scene, 61_000, 360_000);
    assert_eq!(back(&scene, 360_100), Some(ms(360_000 + 20_000)));
}

#[test]
fn who_was_in_trouble_when_it_was_asked_first_is_back_at_an_unknown_time_after_its_beginning() {
    let mut scene = Scene::default();
    scene.answered(Path::Ready, 0, 1, Answer::Etcd);
    assert_eq!(scene.at(100).others_back, None);
    scene.answered(Path::Ready, 500, 501, Answer::Green);
    assert_eq!(scene.at(600).others_back, Some(ms(20_500)));
}

#[test]
fn what_says_nothing_about_the_node_is_told_to_people() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 500, 501, Answer::Other(429));
    assert_eq!((scene.class(600), scene.at(600).found.as_str()), (ProbeClass::Unknown, "answers 429"));
}

#[test]
fn no_route_to_one_whose_kubelet_is_alive_is_not_silence() {
    let mut scene = Scene::green();
    scene.learn(Event::DialFailed(End::Unreachable), 100);
    assert_eq!(scene.class(100), ProbeClass::Silent);
    scene.evidence.mute_silence();
    assert_eq!(scene.class(100), ProbeClass::Unknown);
}
