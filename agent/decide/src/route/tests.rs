use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { fallback: true, settle: Duration::from_secs(2) };
const A: Server = other(1);
const B: Server = other(2);

const fn other(last: u8) -> Server {
    Server::Other(address(last))
}

const fn address(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, last))
}

fn at(milliseconds: u64) -> Moment {
    Moment(Duration::from_millis(1_000_000 + milliseconds))
}

/// All green, on the own server.
fn route() -> Route {
    let mut route = Route::default();
    route.others(&BTreeSet::from([address(1), address(2)]), &BTreeSet::new());
    for server in [Server::Own, A, B] {
        route.health(server, ServerHealth::Green, at(0));
    }
    assert_eq!(route.choose(RULES, at(0)).server, Server::Own);
    route
}

#[test]
fn a_server_of_which_nothing_is_known_is_used_if_it_is_the_own_one() {
    let way = Route::default().choose(RULES, at(0));
    assert_eq!(way, Way { server: Server::Own, ill: false, order: vec![Server::Own] });
}

#[test]
fn an_ill_own_server_is_left_at_once_for_a_green_one() {
    let mut route = route();
    route.health(Server::Own, ServerHealth::Ill, at(100));
    let way = route.choose(RULES, at(100));
    assert!(way.leaves(Server::Own) && !way.leaves(B));
    assert_eq!(way, Way { server: A, ill: false, order: vec![A, B] });
}

#[test]
fn one_refused_request_is_enough_and_one_lost_or_late_is_not() {
    let left = |outcomes: &[Outcome]| {
        let mut route = route();
        for outcome in outcomes {
            route.outcome(Server::Own, *outcome, at(100));
        }
        route.choose(RULES, at(100)).server != Server::Own
    };
    assert!(left(&[Outcome::Refused]));
    assert!(left(&[Outcome::Quiet]));
    for chance in [Outcome::Reset, Outcome::Hanging, Outcome::NotReady] {
        assert!(!left(&[chance]), "{chance:?}");
        assert!(left(&[chance, chance]), "{chance:?}");
        assert!(!left(&[chance, Outcome::Answered, chance]), "{chance:?}");
    }
}

#[test]
fn failures_long_apart_do_not_add_up() {
    let mut route = route();
    route.outcome(Server::Own, Outcome::Reset, at(0));
    route.outcome(Server::Own, Outcome::Reset, at(60_000));
    assert_eq!(route.choose(RULES, at(60_000)).server, Server::Own);
}

#[test]
fn the_own_server_is_used_again_when_it_has_been_green_for_a_while() {
    let mut route = route();
    route.health(Server::Own, ServerHealth::Ill, at(0));
    route.choose(RULES, at(0));
    route.health(Server::Own, ServerHealth::Green, at(1_000));
    assert_eq!(route.choose(RULES, at(2_999)).server, A);
    assert_eq!(route.next_look(RULES, at(2_999)), Some(at(3_000)));
    let way = route.choose(RULES, at(3_000));
    assert_eq!(way.server, Server::Own);
    assert!(!way.leaves(A), "what is under way through the other may end there");
    // A relapse in between begins anew.
    route.health(Server::Own, ServerHealth::Ill, at(4_000));
    assert_eq!(route.choose(RULES, at(4_000)).server, A);
    route.health(Server::Own, ServerHealth::Green, at(5_000));
    route.health(Server::Own, ServerHealth::Unknown, at(6_000));
    route.health(Server::Own, ServerHealth::Green, at(6_500));
    assert_eq!(route.choose(RULES, at(7_500)).server, A);
}

#[test]
fn requests_that_fail_outweigh_a_green_probe_until_the_penalty_is_over() {
    let mut route = route();
    route.outcome(Server::Own, Outcome::Refused, at(0));
    assert_eq!(route.choose(RULES, at(0)).server, A);
    route.health(Server::Own, ServerHealth::Green, at(5_000));
    assert_eq!(route.choose(RULES, at(9_999)).server, A);
    assert_eq!(route.next_look(RULES, at(5_000)), Some(at(10_000)));
    assert_eq!(route.choose(RULES, at(10_000)).server, A, "not settled yet");
    assert_eq!(route.choose(RULES, at(12_000)).server, Server::Own);
}

#[test]
fn another_server_is_kept_while_it_is_good_and_followed_by_the_next_when_it_is_not() {
    let mut route = route();
    route.health(Server::Own, ServerHealth::Ill, at(0));
    route.health(A, ServerHealth::Ill, at(0));
    assert_eq!(route.choose(RULES, at(0)).server, B);
    route.health(A, ServerHealth::Green, at(100));
    assert_eq!(route.choose(RULES, at(100)).server, B);
    route.outcome(B, Outcome::Refused, at(200));
    assert_eq!(route.choose(RULES, at(200)).server, A);
    route.others(&BTreeSet::from([address(2)]), &BTreeSet::new());
    assert_ne!(route.choose(RULES, at(300)).server, A, "its node has gone");
}

#[test]
fn a_server_of_which_nothing_is_known_is_better_than_a_bad_one() {
    let mut route = Route::default();
    route.others(&BTreeSet::from([address(1)]), &BTreeSet::new());
    route.outcome(Server::Own, Outcome::Refused, at(0));
    assert_eq!(route.choose(RULES, at(0)).server, A);
    route.outcome(A, Outcome::Refused, at(10));
    assert_eq!(route.choose(RULES, at(10)).server, Server::Own);
}

#[test]
fn when_all_are_bad_it_stays_where_the_last_answer_came_from() {
    let mut route = route();
    route.health(Server::Own, ServerHealth::Ill, at(0));
    route.choose(RULES, at(0));
    route.outcome(A, Outcome::Answered, at(100));
    for server in [A, B] {
        route.health(server, ServerHealth::Ill, at(200));
    }
    assert_eq!(route.choose(RULES, at(200)).server, A);
    assert!(route.choose(RULES, at(200)).ill);
    route.outcome(A, Outcome::Refused, at(300));
    assert_eq!(route.choose(RULES, at(300)).server, A);
}

#[test]
fn without_fallback_it_is_always_the_own_one() {
    let mut route = route();
    route.health(Server::Own, ServerHealth::Ill, at(0));
    let way = route.choose(Rules { fallback: false, ..RULES }, at(0));
    assert_eq!(way, Way { server: Server::Own, ill: true, order: vec![Server::Own] });
}

#[derive(Clone, Debug)]
enum Step {
    Health(Server, ServerHealth),
    Outcome(Server, Outcome),
    Others(Vec<u8>, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let server = || prop_oneof![Just(Server::Own), (1..4_u8).prop_map(other)];
    let health = prop_oneof![Just(ServerHealth::Green), Just(ServerHealth::Ill), Just(ServerHealth::Unknown)];
    let outcome = prop_oneof![
        Just(Outcome::Answered),
        Just(Outcome::Refused),
        Just(Outcome::Reset),
        Just(Outcome::Hanging),
        Just(Outcome::NotReady),
        Just(Outcome::Quiet)
    ];
    let few = || proptest::collection::vec(1..4_u8, 0..4);
    let step = prop_oneof![
        (server(), health).prop_map(|(server, health)| Step::Health(server, health)),
        (server(), outcome).prop_map(|(server, outcome)| Step::Outcome(server, outcome)),
        (few(), few()).prop_map(|(others, never)| Step::Others(others, never)),
    ];
    proptest::collection::vec((0..6_000_u64, step), 1..60)
}

proptest! {
    #[test]
    fn it_goes_only_where_it_may_and_never_from_good_to_bad(steps in steps(), fallback: bool) {
        let rules = Rules { fallback, ..RULES };
        let mut route = Route::default();
        let (mut allowed, mut now, mut health) = (BTreeSet::new(), 0, BTreeMap::new());
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Health(server, said) => {
                    route.health(server, said, at(now));
                    if route.has(server) {
                        health.insert(server, said);
                    }
                }
                Step::Outcome(server, outcome) => route.outcome(server, outcome, at(now)),
                Step::Others(others, never) => {
                    let set = |list: &[u8]| list.iter().copied().map(address).collect::<BTreeSet<_>>();
                    route.others(&set(&others), &set(&never));
                    allowed = others.into_iter().filter(|last| !never.contains(last)).map(other).collect();
                    health.retain(|server, _| *server == Server::Own || allowed.contains(server));
                }
            }
            let before = route.current;
            let way = route.choose(rules, at(now));
            prop_assert!(way.server == Server::Own || (fallback && allowed.contains(&way.server)));
            prop_assert!(way.order.iter().all(|server| *server == Server::Own || allowed.contains(server)));
            prop_assert_eq!(way.order[0], way.server);
            prop_assert!(way.ill || health.get(&way.server) != Some(&ServerHealth::Ill));
            let good = route.servers().any(|server| route.grade(server, at(now)) == Grade::Good);
            if fallback && good {
                prop_assert!(route.grade(way.server, at(now)) != Grade::Bad);
            }
            if way.server != before && route.grade(before, at(now)) != Grade::Bad {
                prop_assert!(way.server == Server::Own, "only the own server is worth a change of one that is not bad");
            }
            prop_assert!(!way.leaves(way.server));
            for server in route.servers().filter(|server| *server != way.server) {
                let bad = route.grade(server, at(now)) == Grade::Bad;
                prop_assert_eq!(way.leaves(server), bad || !fallback, "what is under way ends with its server");
            }
            // Asked again at once, nothing changes.
            prop_assert_eq!(route.choose(rules, at(now)), way);
        }
    }
}
