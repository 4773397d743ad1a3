//! The lanes: at most one request under way on each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use decide::desired::Identity;
use decide::exposure::SpecEndpoint;
use decide::pass::{CloudStep, ObjectStep};
use decide::settings::Exposure;
use decide::status::Report;

use super::Event;
use crate::cloud::carry_out::{Carried, carry_out};
use crate::cluster::exposures::{Exposed, Exposures};
use crate::run::clouds::Clouds;
use crate::run::proof::prove;

type Request = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The requests under way.
#[derive(Default)]
pub(super) struct Lanes {
    cloud: Option<Request>,
    object: Option<Request>,
    status: Option<Request>,
}

impl Lanes {
    pub(super) fn idle(&self) -> bool {
        self.cloud_idle() && self.object_idle() && self.status_idle()
    }

    pub(super) fn cloud_idle(&self) -> bool {
        self.cloud.is_none()
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
            event = answer(&mut self.cloud) => event,
            event = answer(&mut self.object) => event,
            event = answer(&mut self.status) => event,
        }
    }

    pub(super) fn start_cloud(
        &mut self,
        step: CloudStep,
        identity: Identity,
        clouds: &Arc<Clouds>,
        exposures: Option<Exposures>,
        object: Option<&Exposed>,
    ) {
        let clouds = Arc::clone(clouds);
        let object = object.cloned();
        self.cloud = Some(Box::pin(async move {
            let balancers = match clouds.of(&identity) {
                Ok(balancers) => balancers,
                Err(fault) => return Event::Cloud(step.clone(), Carried::failed(&step, fault)),
            };
            if let (CloudStep::Delete(identity), Some(object)) = (&step, &object)
                && let Err(fault) = prove(identity, object, exposures.as_ref(), balancers.as_ref()).await
            {
                return Event::Cloud(step.clone(), Carried::failed(&step, fault));
            }
            let carried = carry_out(&step, balancers.as_ref()).await;
            Event::Cloud(step, carried)
        }));
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
