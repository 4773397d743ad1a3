//! Who lives, and since when: what tells a lost etcd from an API server that hangs.

use super::super::*;
use super::{Scene, failing, ms};

/// It answers all that has waited at once, in any order: for a moment it looks alive and without its etcd.
#[test]
fn an_api_server_that_goes_on_after_a_pause_is_not_cut_from_its_etcd() {
    let mut scene = Scene::green();
    let sent = |scene: &mut Scene, path| -> Vec<u64> { (1..10).map(|n| scene.send(path, n * 500, false)).collect() };
    let (ready, alive) = (sent(&mut scene, Path::Ready), sent(&mut scene, Path::Alive));
    assert_eq!(scene.class(4600), ProbeClass::Silent);
    // The youngest first: it has waited for a moment only.
    for id in alive.into_iter().rev() {
        scene.learn(Event::Answered(id, Answer::Green), 4600);
        assert_ne!(scene.class(4600), ProbeClass::EtcdCut);
    }
    // The checks of its etcd have run out of time meanwhile.
    for id in ready {
        scene.learn(Event::Answered(id, Answer::Etcd), 4610);
        assert_ne!(scene.class(4610), ProbeClass::EtcdCut);
    }
    assert_eq!(scene.class(5100), ProbeClass::EtcdCut, "it says so still");
    scene.answered(Path::Ready, 5100, 5101, Answer::Green);
    assert_eq!(scene.class(5101), ProbeClass::Green);
}

/// It was silent, refused or away itself a moment ago.
#[test]
fn who_is_slow_refused_or_away_has_not_lived_since() {
    let lives = |scene: &mut Scene, at: u64| {
        scene.answered(Path::Alive, at, at + 1, Answer::Green);
        scene.at(at + 1).lives_since
    };
    let mut scene = Scene::green();
    assert_eq!(scene.at(2).lives_since, Some(ms(1)));
    assert_eq!(lives(&mut scene, 500), Some(ms(1)), "it has lived all the while");
    for (end, at) in [(End::Refused, 1000), (End::Unreachable, 2000)] {
        scene.learn(Event::DialFailed(end), at);
        assert_eq!(scene.at(at).lives_since, None);
        assert_eq!(lives(&mut scene, at + 100), Some(ms(at + 101)));
    }
    let id = scene.send(Path::Alive, 3000, false);
    scene.learn(Event::Ended(id, End::GivenUp), 3999);
    assert_eq!(scene.at(3999).lives_since, Some(ms(2101)), "it was not slow");
    let id = scene.send(Path::Alive, 4000, false);
    scene.learn(Event::Ended(id, End::GivenUp), 5000);
    assert_eq!(scene.at(5000).lives_since, None);
    scene.answered(Path::Alive, 6000, 7000, Answer::Green);
    assert_eq!(scene.at(7000).lives_since, Some(ms(7000)), "its answer was late");
    scene.answered(Path::Alive, 8000, 9000, Answer::Green);
    assert_eq!(scene.at(9000).lives_since, Some(ms(9000)));
}

#[test]
fn what_waited_while_the_prober_slept_holds_back_no_later_answer() {
    let mut scene = Scene::green();
    scene.send(Path::Ready, 500, false);
    scene.send(Path::Alive, 500, false);
    scene.evidence.overslept();
    scene.round(3000, 3001, Answer::Green, Answer::Green);
    let reading = scene.at(3001);
    assert_eq!(reading.green, Some(Green { asked: ms(3000), came: ms(3001) }));
    assert_eq!((reading.class, reading.lives_since), (ProbeClass::Green, Some(ms(1))));
}

/// An answer to a later request takes nothing back while an earlier one waits.
#[test]
fn slow_requests_for_the_living_count_until_a_later_one_is_answered_and_none_before_it_waits() {
    let mut scene = Scene::green();
    for at in [500, 600] {
        scene.send(Path::Ready, at, false);
    }
    let early = scene.send(Path::Alive, 500, false);
    let given_up = scene.send(Path::Alive, 600, false);
    scene.learn(Event::Ended(given_up, End::GivenUp), 1700);
    assert_eq!(scene.class(1700), ProbeClass::Silent);
    scene.answered(Path::Alive, 1710, 1711, Answer::Green);
    assert_eq!(scene.class(1711), ProbeClass::Silent, "one before it waits");
    scene.learn(Event::Answered(early, Answer::Green), 1720);
    scene.answered(Path::Alive, 1730, 1731, Answer::Green);
    assert_ne!(scene.class(1731), ProbeClass::Silent);
}

/// Else nobody looks before the next answer.
#[test]
fn what_was_found_right_after_a_start_counts_as_soon_as_it_has_lived_for_long_enough() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 100, 101, Answer::Etcd);
    let reading = scene.at(101);
    assert_ne!(reading.class, ProbeClass::EtcdCut);
    assert_eq!(reading.next, Some(ms(501)));
    assert_eq!((scene.class(501), scene.at(501).next), (ProbeClass::EtcdCut, None));
}

/// The two requests of a tick begin together: one that still waits holds back nothing of the other.
#[test]
fn of_two_that_began_together_each_counts_when_it_is_answered() {
    let mut scene = Scene::default();
    let [ready, alive] = [Path::Ready, Path::Alive].map(|path| scene.send(path, 500, false));
    assert_eq!(scene.evidence.open(), 2);
    scene.learn(Event::Answered(ready, Answer::Green), 510);
    let green = Some(Green { asked: ms(500), came: ms(510) });
    assert_eq!((scene.at(510).class, scene.at(510).green, scene.evidence.open()), (ProbeClass::Green, green, 1));
    scene.learn(Event::Answered(alive, Answer::Green), 520);
    assert_eq!((scene.at(520).lives_since, scene.evidence.open()), (Some(ms(520)), 0));
}

/// Of the two requests of a first tick the one that does not wait for etcd is answered first: that lasts a millisecond, in
/// which an agent that had just started took itself for blind, and brought back a dead target.
#[test]
fn that_it_lives_and_that_it_failed_once_are_no_word_on_whether_it_is_ready() {
    let mut scene = Scene::default();
    scene.answered(Path::Alive, 500, 501, Answer::Green);
    assert!(scene.at(501).answered && !scene.at(501).heard);
    scene.answered(Path::Ready, 500, 502, failing());
    assert!(!scene.at(502).heard);
    scene.answered(Path::Ready, 1000, 1001, failing());
    assert!(scene.at(1001).heard, "twice is red");
    for said in [Answer::Green, Answer::Etcd, Answer::Shutdown, Answer::Denied(403), Answer::Other(429)] {
        let mut scene = Scene::default();
        scene.answered(Path::Ready, 500, 501, said.clone());
        assert!(scene.at(501).heard, "{said:?}");
    }
}

#[test]
fn a_request_for_readiness_that_waits_holds_back_no_answer_of_the_living_nor_does_one_that_began_with_it() {
    let mut scene = Scene::green();
    for at in [500, 600] {
        scene.send(Path::Ready, at, false);
        let given_up = scene.send(Path::Alive, at, false);
        scene.learn(Event::Ended(given_up, End::GivenUp), at + 1100);
    }
    assert_eq!(scene.class(1700), ProbeClass::Silent);
    scene.send(Path::Alive, 1710, false);
    scene.answered(Path::Alive, 1710, 1711, Answer::Green);
    assert_ne!(scene.class(1711), ProbeClass::Silent);
}

#[test]
fn the_first_answer_that_names_etcd_counts_from_when_it_came_if_the_server_has_lived_all_the_while() {
    let mut lived = Scene::green();
    lived.answered(Path::Ready, 100, 101, Answer::Etcd);
    assert_eq!(lived.at(601).named, Some(ms(101)));
    let mut came_later = Scene::default();
    came_later.answered(Path::Ready, 100, 101, Answer::Etcd);
    came_later.answered(Path::Alive, 200, 201, Answer::Green);
    assert_eq!(came_later.at(801).named, None);
}

#[test]
fn what_named_etcd_and_hangs_now_is_not_cut_off() {
    let mut scene = Scene::green();
    scene.answered(Path::Ready, 100, 101, Answer::Etcd);
    scene.send(Path::Alive, 700, false);
    assert_eq!(scene.class(1699), ProbeClass::EtcdCut);
    assert_ne!(scene.class(1700), ProbeClass::EtcdCut);
}

#[test]
fn that_it_lived_when_the_first_slow_request_began_is_too_old_to_blame_its_etcd() {
    let mut scene = Scene::green();
    for at in [500, 600] {
        scene.send(Path::Ready, at, false);
    }
    scene.answered(Path::Alive, 500, 501, Answer::Green);
    assert_ne!(scene.class(1600), ProbeClass::EtcdCut);
    scene.answered(Path::Alive, 501, 502, Answer::Green);
    assert_eq!(scene.class(1600), ProbeClass::EtcdCut);
}
