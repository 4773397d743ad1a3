use super::*;

pub(super) const TIMINGS: Timings = Timings {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

pub(super) fn record(holder: &str, renewed: &str, version: &str) -> Record {
    Record {
        holder: holder.to_owned(),
        duration: Duration::from_secs(15),
        renewed: renewed.to_owned(),
        acquired: String::new(),
        transitions: 0,
        resource_version: version.to_owned(),
    }
}

fn candidate() -> Election {
    Election::new("us".to_owned(), TIMINGS)
}

#[test]
fn nothing_is_tried_before_the_lease_was_read() {
    assert!(matches!(candidate().turn(at(100)), Turn::Wait(_)));
}

#[test]
fn a_missing_lease_is_made_and_a_released_one_taken_at_once() {
    let mut election = candidate();
    election.observe(None, at(1));
    assert_eq!(election.turn(at(1)), Turn::Create);
    election.observe(Some(record("", "r", "2")), at(1));
    assert_eq!(election.turn(at(1)), Turn::Take(record("", "r", "2")));
}

#[test]
fn a_live_holder_is_left_alone_until_it_has_not_changed_for_its_duration() {
    let mut election = candidate();
    election.observe(Some(record("other", "r1", "1")), at(100));
    assert_eq!(election.turn(at(100)), Turn::Wait(at(115)));
    election.observe(Some(record("other", "r2", "2")), at(110));
    assert_eq!(election.turn(at(115)), Turn::Wait(at(125)));
    assert_eq!(election.turn(at(125)), Turn::Take(record("other", "r2", "2")));
}

#[test]
fn a_change_of_metadata_alone_is_no_sign_of_life() {
    let mut election = candidate();
    election.observe(Some(record("other", "r1", "1")), at(100));
    election.observe(Some(record("other", "r1", "2")), at(114));
    assert_eq!(election.turn(at(115)), Turn::Take(record("other", "r1", "2")));
}

#[test]
fn seeing_the_same_lease_again_does_not_prolong_it() {
    let mut election = candidate();
    election.observe(Some(record("other", "r1", "1")), at(100));
    election.observe(Some(record("other", "r1", "1")), at(114));
    assert_eq!(election.turn(at(115)), Turn::Take(record("other", "r1", "1")));
}

#[test]
fn the_leader_renews_each_period_and_steps_down_at_the_deadline() {
    let mut election = candidate();
    election.observe(None, at(0));
    election.stored(record("us", "r1", "1"), at(0));
    assert_eq!(election.leads_until(), Some(at(10)));
    assert_eq!(election.turn(at(1)), Turn::Wait(at(2)));
    assert_eq!(election.turn(at(2)), Turn::Renew(record("us", "r1", "1")));
    election.failed(at(4), 0.0);
    assert_eq!(election.turn(at(5)), Turn::Wait(at(6)));
    assert_eq!(election.turn(at(10)), Turn::StepDown);
    election.stepped_down();
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_lease_that_shows_another_holder_ends_leadership_at_once() {
    let mut election = candidate();
    election.stored(record("us", "r1", "1"), at(0));
    election.observe(Some(record("other", "r2", "2")), at(1));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_renewal_that_the_watch_shows_first_keeps_the_time_it_was_sent() {
    let mut election = candidate();
    election.stored(record("us", "r1", "1"), at(0));
    election.observe(Some(record("us", "r2", "2")), at(3));
    assert_eq!(election.leads_until(), Some(at(10)), "only an answered renewal prolongs leadership");
    election.stored(record("us", "r2", "2"), at(2));
    assert_eq!(election.leads_until(), Some(at(12)));
}

#[test]
fn a_try_whose_answer_was_lost_counts_from_when_it_was_sent() {
    let mut election = candidate();
    election.stored(record("us", "r1", "1"), at(0));
    election.tried("r2".to_owned(), at(2));
    election.failed(at(2), 0.0);
    election.tried("r3".to_owned(), at(4));
    // The next server, or the watch, shows the first of the two.
    election.observe(Some(record("us", "r2", "2")), at(5));
    assert_eq!(election.leads_until(), Some(at(12)));
    assert!(election.is_ours());
}

#[test]
fn a_try_that_is_stored_after_its_deadline_does_not_lead() {
    let mut election = candidate();
    election.observe(Some(record("", "r0", "1")), at(0));
    election.tried("r1".to_owned(), at(0));
    election.observe(Some(record("us", "r1", "2")), at(10));
    assert_eq!(election.leads_until(), None);
    // Nor one that is stored while another holds it, which only a lie could show.
    election.tried("r2".to_owned(), at(11));
    election.observe(Some(record("other", "r2", "3")), at(12));
    assert_eq!(election.leads_until(), None);
}

#[test]
fn a_late_event_from_before_our_takeover_changes_nothing() {
    let mut election = candidate();
    election.observe(Some(record("other", "r1", "1")), at(0));
    election.stored(record("us", "r3", "3"), at(20));
    election.observe(Some(record("other", "r2", "2")), at(21));
    assert_eq!(election.leads_until(), Some(at(30)));
}

#[test]
fn an_old_lease_of_our_own_identity_is_renewed_before_it_leads() {
    let mut election = candidate();
    election.observe(Some(record("us", "r1", "1")), at(0));
    assert_eq!(election.leads_until(), None);
    assert_eq!(election.turn(at(0)), Turn::Renew(record("us", "r1", "1")));
}

#[test]
fn after_a_failure_the_next_try_waits_a_period_and_up_to_a_fifth_more() {
    for (jitter, wait) in [(0.0, 2_000), (0.5, 2_200), (1.0, 2_400), (7.0, 2_400)] {
        let mut election = candidate();
        election.stored(record("us", "r1", "1"), at(0));
        election.failed(at(4), jitter);
        assert_eq!(election.turn(at(4)), Turn::Wait(at(4) + Duration::from_millis(wait)), "{jitter}");
    }
}

#[test]
fn a_lease_has_been_read_when_it_is_known_that_there_is_none() {
    let mut election = candidate();
    assert!(!election.is_read());
    election.observe(None, at(0));
    assert!(election.is_read() && !election.is_ours());
}
