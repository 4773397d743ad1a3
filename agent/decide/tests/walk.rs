//! A random walk over passes: nodes come and go, the cloud fails in every way, time jumps, leadership is lost. What must
//! never happen is checked at each step, and in the end everything has to come right by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use world::{Event, NodeEvent, Trouble, World};

fn node_event() -> impl Strategy<Value = NodeEvent> {
    prop_oneof![
        3 => Just(NodeEvent::Ready),
        2 => Just(NodeEvent::NotReady),
        1 => Just(NodeEvent::Drained),
        1 => Just(NodeEvent::Deleted),
        1 => Just(NodeEvent::NoAddress),
        1 => (0u8..3).prop_map(NodeEvent::Address),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        Just(Trouble::Server),
        Just(Trouble::Lost),
        Just(Trouble::LostAfter),
        Just(Trouble::RateLimited),
        Just(Trouble::Invalid),
        Just(Trouble::Conflict),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u8..4, node_event()).prop_map(|(node, event)| Event::Node(node, event)),
        6 => (0u64..15_000).prop_map(|time| Event::Time(Duration::from_millis(time))),
        3 => (trouble(), 1usize..4).prop_map(|(trouble, times)| Event::Cloud(trouble, times)),
        2 => (1usize..3).prop_map(Event::ApiServer),
        1 => any::<bool>().prop_map(Event::Listed),
        1 => Just(Event::NoNodes),
        2 => Just(Event::ForeignTargets),
        1 => Just(Event::ForeignEndpoints),
        1 => Just(Event::DeletedByHand),
        2 => any::<bool>().prop_map(Event::Leads),
        1 => Just(Event::NoRenewals),
        1 => Just(Event::Asked),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_comes_right_in_the_end(
        events in prop::collection::vec(event(), 0..40),
        jitter in 0.0f64..1.0,
        delete in any::<bool>(),
    ) {
        let mut world = World::new(jitter);
        for event in &events {
            world.happens(event);
        }
        world.calm();
        world.run(Duration::from_secs(300));
        world.assert_as_wished();
        // What others have contested is forgotten by then.
        world.run(Duration::from_secs(660));
        world.assert_quiet(Duration::from_secs(600));
        if delete {
            world.view.deleting = true;
            world.run(Duration::from_secs(60));
            world.assert_gone();
        }
    }

    #[test]
    fn deletion_at_any_time_ends_with_nothing_left(
        before in prop::collection::vec(event(), 0..20),
        after in prop::collection::vec(event(), 0..20),
        jitter in 0.0f64..1.0,
    ) {
        let mut world = World::new(jitter);
        for event in &before {
            world.happens(event);
        }
        world.view.deleting = true;
        for event in &after {
            world.happens(event);
        }
        world.calm();
        world.run(Duration::from_secs(300));
        world.assert_gone();
    }

    #[test]
    fn the_order_of_nodes_and_endpoints_never_matters(
        events in prop::collection::vec(event(), 0..30),
        jitter in 0.0f64..1.0,
    ) {
        let mut world = World::new(jitter);
        for event in &events {
            world.happens(event);
            let forward = world.pass();
            world.backwards = !world.backwards;
            world.view.endpoints.reverse();
            prop_assert_eq!(forward, world.pass());
        }
    }

    #[test]
    fn who_does_not_lead_does_nothing(events in prop::collection::vec(event(), 0..30), jitter in 0.0f64..1.0) {
        let mut world = World::new(jitter);
        for event in &events {
            world.happens(event);
        }
        world.lead = world::Lead::Not;
        let pass = world.pass();
        prop_assert_eq!((pass.cloud, pass.object, pass.report), (None, None, None));
    }
}

/// The walk has found it: the answer shows a state that is over, and the look that was asked for was due again at once,
/// and again, until the lag had ended.
#[test]
fn a_look_that_was_asked_for_and_lags_behind_is_repeated_after_a_pause() {
    let mut world = World::new(0.5);
    for event in [
        Event::NoRenewals,
        Event::DeletedByHand,
        Event::Cloud(Trouble::Server, 3),
        Event::ApiServer(1),
        Event::Asked,
        Event::Time(Duration::from_secs(4)),
    ] {
        world.happens(&event);
    }
}
