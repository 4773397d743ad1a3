use super::super::tests::{TIMINGS, record};
use super::super::{Election, Turn};
use super::*;
use crate::health::Mark;

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn node(name: &str) -> Verdict {
    let own = name == "own";
    let ip = Some([10, 0, 0, 1].into());
    Verdict { node: name.to_owned(), ip, own, serves: true, ..Verdict::default() }
}

fn drained(name: &str) -> Verdict {
    Verdict { class: Class::Maintenance(Mark::Drained), ..node(name) }
}

fn silent(name: &str, since: u64) -> Verdict {
    let mut verdict = Verdict { class: Class::Silent, by_probe: Class::Silent, ..node(name) };
    (verdict.probe.class, verdict.probe.since) = (ProbeClass::Silent, at(since));
    verdict
}

/// Everything is well.
const WELL: Signs<'static> = Signs { verdicts: &[], pending: false, answered: None, token: true, target: true };

#[test]
fn each_sign_is_an_ailment_where_somebody_else_could_lead() {
    let not_ready = Verdict { serves: false, class: Class::NotReady("Ready=False".to_owned()), ..node("b") };
    let gone = Verdict { class: Class::Absent, ..node("b") };
    let pair = [node("own"), node("b")];
    let now = Some(at(100));
    let unanswered = Strain { unanswered: now, ..Strain::default() };
    let tokenless = Strain { tokenless: now, ..Strain::default() };
    let isolated = Strain { isolated: Some(at(95)), ..Strain::default() };
    let out = Strain { drained: now, ..Strain::default() };
    let none = Strain::default();
    let table: Vec<(&str, Vec<Verdict>, Signs<'_>, Strain)> = vec![
        ("all is well", pair.to_vec(), WELL, none),
        ("a write waits", pair.to_vec(), Signs { pending: true, ..WELL }, unanswered),
        ("no token", pair.to_vec(), Signs { token: false, ..WELL }, tokenless),
        ("alone", vec![node("own")], Signs { pending: true, token: false, ..WELL }, none),
        ("the other is down", vec![node("own"), not_ready], Signs { pending: true, token: false, ..WELL }, none),
        ("the other is gone", vec![node("own"), gone], Signs { pending: true, token: false, ..WELL }, none),
        ("the others are silent", vec![node("own"), silent("b", 90), silent("c", 95)], WELL, isolated),
        ("one other answers", vec![node("own"), silent("b", 90), node("c")], WELL, none),
        ("nobody else is there to be silent", vec![silent("own", 90)], WELL, none),
        ("drained, and still a target", vec![drained("own"), node("b")], WELL, none),
        ("drained and out", vec![drained("own"), node("b")], Signs { target: false, ..WELL }, out),
        ("a write waits", vec![drained("own"), node("b")], Signs { target: false, pending: true, ..WELL }, unanswered),
        ("all are drained", vec![drained("own"), drained("b")], Signs { target: false, ..WELL }, none),
        ("another is drained", vec![node("own"), drained("b")], Signs { target: false, ..WELL }, none),
    ];
    for (what, verdicts, signs, strain) in table {
        let signs = Signs { verdicts: &verdicts, ..signs };
        assert_eq!(Strain::default().next(&signs, at(100)), strain, "{what}");
    }
}

#[test]
fn an_ailment_lasts_from_when_it_began_and_an_answer_starts_the_wait_over() {
    let pair = [node("own"), node("b")];
    let waits = Signs { verdicts: &pair, pending: true, token: false, ..WELL };
    let strain = Strain::default().next(&waits, at(100)).next(&waits, at(105));
    assert_eq!((strain.unanswered, strain.tokenless), (Some(at(100)), Some(at(100))));
    let strain = strain.next(&Signs { answered: Some(at(107)), ..waits }, at(108));
    assert_eq!(strain.unanswered, Some(at(107)));
    // An answer from before there was anything to wait for says nothing.
    let strain = Strain::default().next(&Signs { answered: Some(at(50)), ..waits }, at(100));
    assert_eq!(strain.unanswered, Some(at(100)));
    assert!(!strain.next(&Signs { verdicts: &pair, ..WELL }, at(110)).is_any());
}

#[test]
fn several_owners_suffer_together_and_a_drained_node_is_out_of_every_balancer() {
    let one = Strain { unanswered: Some(at(5)), drained: Some(at(1)), ..Strain::default() };
    let other = Strain { unanswered: Some(at(3)), tokenless: Some(at(9)), ..Strain::default() };
    let both = Strain { unanswered: Some(at(3)), tokenless: Some(at(9)), ..Strain::default() };
    assert_eq!(Strain::of_all([one, other]), both);
    let out = Strain { drained: Some(at(4)), ..Strain::default() };
    assert_eq!(Strain::of_all([one, out]).drained, Some(at(4)));
    assert_eq!(Strain::of_all([]), Strain::default());
}

/// Leads since the beginning of time, and suffers from something since 100.
fn leader(ailment: Ailment) -> Election {
    let mut election = Election::new("us".to_owned(), TIMINGS);
    election.stored(record("us", "r1", "1"), at(90));
    election.strained(since(ailment, 100));
    election
}

fn since(ailment: Ailment, seconds: u64) -> Strain {
    let since = Some(at(seconds));
    match ailment {
        Ailment::Unanswered => Strain { unanswered: since, ..Strain::default() },
        Ailment::Tokenless => Strain { tokenless: since, ..Strain::default() },
        Ailment::Isolated => Strain { isolated: since, ..Strain::default() },
        Ailment::Drained => Strain { drained: since, ..Strain::default() },
    }
}

fn hands_over(election: &Election, now: u64) -> bool {
    matches!(election.turn(at(now)), Turn::HandOver(..))
}

#[test]
fn an_ailing_leader_hands_over_when_it_counts_and_looks_at_the_right_moment() {
    for (ailment, ripe) in
        [(Ailment::Unanswered, 110), (Ailment::Tokenless, 110), (Ailment::Isolated, 110), (Ailment::Drained, 101)]
    {
        let mut election = leader(ailment);
        election.stored(record("us", "r2", "2"), at(ripe - 1));
        assert_eq!(election.turn(at(ripe - 1)), Turn::Wait(at(ripe)), "{ailment:?}");
        assert_eq!(election.turn(at(ripe)), Turn::HandOver(record("us", "r2", "2"), ailment));
        // What is over in time is over.
        election.strained(Strain::default());
        assert!(!hands_over(&election, ripe));
    }
}

#[test]
fn who_has_handed_over_lets_others_go_first_and_takes_the_lease_again_when_nobody_comes() {
    let mut election = leader(Ailment::Unanswered);
    election.handed_over(Ailment::Unanswered, at(110));
    assert_eq!(election.leads_until(), None);
    election.observe(Some(record("", "r2", "2")), at(110));
    assert_eq!(election.turn(at(110)), Turn::Wait(at(112)), "one retry period");
    assert_eq!(election.turn(at(112)), Turn::Take(record("", "r2", "2")));
    election.stored(record("us", "r3", "3"), at(112));
    // Nobody came: it is as good as alone, and does not try again before its time is over.
    for now in [113, 121, 169] {
        election.stored(record("us", "r", &now.to_string()), at(now));
        assert!(!hands_over(&election, now), "{now}");
    }
    assert!(hands_over(&election, 170));
}

#[test]
fn somebody_who_takes_it_is_respected_and_an_expired_lease_is_left_to_others_first() {
    let mut election = leader(Ailment::Tokenless);
    election.handed_over(Ailment::Tokenless, at(110));
    election.observe(Some(record("", "r2", "2")), at(110));
    election.observe(Some(record("other", "r3", "3")), at(111));
    assert_eq!(election.turn(at(112)), Turn::Wait(at(111 + 15 + 2)));
    // When its time is over and it is well again, it is a candidate like any other.
    election.strained(Strain::default());
    election.observe(Some(record("other", "r4", "4")), at(170));
    assert_eq!(election.turn(at(171)), Turn::Wait(at(185)));
}

#[test]
fn a_follower_that_is_ailing_leaves_a_free_lease_to_others_first() {
    for ailment in [Ailment::Tokenless, Ailment::Isolated, Ailment::Drained] {
        let mut election = Election::new("us".to_owned(), TIMINGS);
        election.observe(Some(record("other", "r1", "1")), at(90));
        election.strained(since(ailment, 100));
        election.observe(Some(record("", "r2", "2")), at(120));
        assert_eq!(election.turn(at(120)), Turn::Wait(at(122)), "{ailment:?}");
        election.strained(Strain::default());
        assert_eq!(election.turn(at(120)), Turn::Take(record("", "r2", "2")));
    }
    // Where there is no Lease at all, somebody has to begin.
    let mut election = Election::new("us".to_owned(), TIMINGS);
    election.strained(since(Ailment::Tokenless, 100));
    election.observe(None, at(120));
    assert_eq!(election.turn(at(120)), Turn::Create);
}

#[test]
fn standing_back_doubles_up_to_ten_minutes_and_is_forgotten_after_a_quiet_time() {
    let mut standing = Standing::default();
    let mut now = at(1000);
    for seconds in [60, 120, 240, 480, 600, 600] {
        standing.gave_way(Ailment::Unanswered, now);
        assert_eq!(standing.until, now + Duration::from_secs(seconds));
        now = standing.until + Duration::from_secs(11);
    }
    now = standing.until + FORGOTTEN;
    standing.gave_way(Ailment::Unanswered, now);
    assert_eq!(standing.until, now + BACK.0);
}

#[test]
fn a_drain_is_no_fault_once_it_is_over() {
    let mut election = leader(Ailment::Drained);
    election.handed_over(Ailment::Drained, at(101));
    election.observe(Some(record("", "r2", "2")), at(101));
    assert_eq!(election.turn(at(101)), Turn::Wait(at(103)), "others first while it is drained");
    election.observe(Some(record("other", "r3", "3")), at(102));
    election.strained(Strain::default());
    election.observe(Some(record("", "r4", "4")), at(110));
    assert_eq!(election.turn(at(110)), Turn::Take(record("", "r4", "4")));
    // But a Lease that nobody wants is not handed over again and again.
    election.stored(record("us", "r5", "5"), at(110));
    election.strained(since(Ailment::Drained, 120));
    election.stored(record("us", "r6", "6"), at(155));
    assert!(!hands_over(&election, 160) && hands_over(&election, 161));
}

#[test]
fn stackit_down_for_all_changes_the_leader_once_a_minute_at_most() {
    let names = ["a", "b", "c"];
    let mut agents: Vec<Election> = names.map(|name| Election::new(name.to_owned(), TIMINGS)).into();
    let mut lease = None;
    let mut version = 0;
    let mut changes = Vec::new();
    let mut last = String::new();
    for tenth in 0..36_000u64 {
        let now = Moment(Duration::from_millis(100 * tenth));
        for index in 0..agents.len() {
            let leads = agents[index].leads_until().is_some();
            let unanswered = leads.then(|| agents[index].standing.strain.unanswered.unwrap_or(now));
            agents[index].strained(Strain { unanswered, ..Strain::default() });
            agents[index].observe(lease.clone(), now);
            let turn = agents[index].turn(now);
            let hold = match &turn {
                Turn::Create | Turn::Take(_) | Turn::Renew(_) => names[index],
                Turn::HandOver(..) => "",
                Turn::Wait(_) | Turn::StepDown => continue,
            };
            version += 1;
            let stored = record(hold, &version.to_string(), &version.to_string());
            lease = Some(stored.clone());
            match turn {
                Turn::HandOver(_, ailment) => agents[index].handed_over(ailment, now),
                _ => agents[index].stored(stored, now),
            }
            if !hold.is_empty() && last != hold {
                // Who is the first has followed nobody.
                changes.extend((!last.is_empty()).then_some(now));
                hold.clone_into(&mut last);
            }
        }
    }
    let apart = changes.windows(2).map(|pair| pair[1].since(pair[0])).min();
    assert!(apart >= Some(CALM), "{apart:?}");
    // Each has its turn, and none for good.
    assert!((5..=60).contains(&changes.len()), "{} changes in an hour", changes.len());
}

#[test]
fn a_strain_is_one_and_an_ailment_has_its_words() {
    assert!(!Strain::default().is_any());
    assert!(Strain { tokenless: Some(at(1)), ..Strain::default() }.is_any());
    let words: Vec<String> = [Ailment::Unanswered, Ailment::Tokenless, Ailment::Isolated, Ailment::Drained]
        .map(|ailment| ailment.to_string())
        .into();
    for (word, said) in ["STACKIT", "token", "silent", "drained"].iter().zip(&words) {
        assert!(said.contains(word), "{words:?}");
    }
}
