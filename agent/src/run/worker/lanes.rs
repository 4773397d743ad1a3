//! The lanes: at most one request under way on each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use decide::Moment;
use decide::desired::Identity;
use decide::exposure::SpecEndpoint;
use decide::pass::{CloudStep, ObjectStep, UnderWay};
use decide::settings::Exposure;
use decide::status::Report;

use super::{Context, Event};
use crate::cloud::Fence;
use crate::cloud::carry_out::{Carried, carry_out};
use crate::cluster::exposures::{Exposed, Exposures};
use crate::run::proof::prove;

type Request = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The requests under way.
#[derive(Default)]
pub(super) struct Lanes {
    cloud: Option<(UnderWay, Request)>,
    object: Option<Request>,
    status: Option<Request>,
}

impl Lanes {
    pub(super) fn idle(&self) -> bool {
        self.cloud.is_none() && self.object_idle() && self.status_idle()
    }

    /// From when on this step may start, which may be over; `None`: after the answer that is waited for.
    pub(super) fn free_for(&self, step: &CloudStep) -> Option<Moment> {
        match &self.cloud {
            None => Some(Moment::default()),
            Some((under_way, _)) => under_way.gives_way_at(step),
        }
    }

    /// Waits no longer for what is under way at STACKIT; whether that may have changed something.
    pub(super) fn give_up(&mut self) -> bool {
        self.cloud.take().is_some_and(|(under_way, _)| !under_way.is_look())
    }

    /// Waits no longer for a look at the balancer; a change is waited for.
    pub(super) fn give_up_look(&mut self) {
        self.cloud.take_if(|(under_way, _)| under_way.is_look());
    }

    pub(super) fn object_idle(&self) -> bool {
        self.object.is_none()
    }

    pub(super) fn status_idle(&self) -> bool {
        self.status.is_none()
    }

    /// The next answer on any lane; never, while all are idle.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            // What goes to STACKIT goes first.
            biased;
            event = cloud(&mut self.cloud) => event,
            event = answer(&mut self.object) => event,
            event = answer(&mut self.status) => event,
        }
    }

    pub(super) fn start_cloud(
        &mut self,
        step: CloudStep,
        identity: Identity,
        context: &Context,
        object: Option<&Exposed>,
        now: Moment,
    ) {
        let clouds = Arc::clone(&context.clouds);
        let exposures = context.sources.exposures.as_ref().map(|(exposures, _)| exposures.clone());
        let fence = Fence::until(context.leadership.clone());
        let object = object.cloned();
        let under_way = UnderWay::of(&step, now);
        let request = Box::pin(async move {
            let balancers = match clouds.of(&identity) {
                Ok(balancers) => balancers.fenced(fence),
                Err(fault) => return Event::Cloud(step.clone(), Carried::failed(&step, fault)),
            };
            if let (CloudStep::Delete(identity), Some(object)) = (&step, &object)
                && let Err(fault) = prove(identity, object, exposures.as_ref(), &balancers).await
            {
                return Event::Cloud(step.clone(), Carried::failed(&step, fault));
            }
            let carried = carry_out(&step, &balancers).await;
            Event::Cloud(step, carried)
        });
        self.cloud = Some((under_way, request));
    }

    pub(super) fn start_object(&mut self, step: ObjectStep, exposures: Exposures, base: Exposed) {
        self.object = Some(Box::pin(async move {
            let result = match &step {
                ObjectStep::AddFinalizer => exposures.add_finalizer(&base).await,
                ObjectStep::RemoveFinalizer => exposures.remove_finalizer(&base).await,
                ObjectStep::StripOperation => exposures.strip_operation(&base).await,
                ObjectStep::FinishOperation => exposures.finish_operation(&base).await,
                ObjectStep::HandOverEndpoints(endpoints) => exposures.hand_over_endpoints(&base, endpoints).await,
                ObjectStep::ApplyEndpoints(endpoints) => exposures.apply_endpoints(&base, endpoints).await,
            };
            Event::Object(step, result)
        }));
    }

    pub(super) fn start_status(&mut self, report: Report, exposures: Exposures, base: Exposed) {
        self.status = Some(Box::pin(async move { Event::Status(exposures.report(&base, &report).await) }));
    }

    pub(super) fn start_create(&mut self, exposures: Exposures, wish: Exposure, endpoints: Vec<SpecEndpoint>) {
        self.object = Some(Box::pin(async move { Event::Created(exposures.create(&wish, &endpoints).await) }));
    }
}

async fn cloud(lane: &mut Option<(UnderWay, Request)>) -> Event {
    match lane {
        Some((_, request)) => {
            let event = request.await;
            *lane = None;
            event
        }
        None => std::future::pending().await,
    }
}

async fn answer(lane: &mut Option<Request>) -> Event {
    match lane {
        Some(request) => {
            let event = request.await;
            *lane = None;
            event
        }
        None => std::future::pending().await,
    }
}
