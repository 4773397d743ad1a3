//! The verbs `pause` and `resume`: an annotation on the exposure, set or removed. The agents do the rest.

use anyhow::{Context as _, anyhow, bail};
use decide::exposure::is_ours;
use decide::settings::Settings;
use kube::Api;

use super::Unusable;
use crate::cluster::client;
use crate::cluster::exposures::{Exposed, Exposures};
use crate::cluster::{ApiFailure, patiently};

/// Sets or removes the annotation on the one exposure of ours, and says so.
pub async fn set(settings: &Settings, paused: bool) -> anyhow::Result<String> {
    let access = client::find(settings).await.context("looking for a way to Kubernetes")?;
    let Some(access) = access else {
        bail!(Unusable(
            "there is no kubeconfig (--kubeconfig, setting `kubeconfig`, $KUBECONFIG, \
             /etc/shoot-exposure-agent/kubeconfig), and the annotation is set in Kubernetes; name one, or stop the \
             agents instead where there is no Kubernetes"
                .to_owned()
        ));
    };
    let exposures = Exposures::new(Api::namespaced(access.client()?, &settings.exposure.namespace));
    let exposed = the_one(settings, &exposures).await?;
    let name = exposed.view.name;
    if exposed.view.paused == paused {
        return Ok(format!("exposure `{name}` is {} already\n", word(paused)));
    }
    let set = patiently(|| exposures.set_paused(&name, paused)).await;
    set.map_err(|failure| anyhow!("annotating exposure `{name}`: {failure}"))?;
    let deleting = if exposed.view.deleting && paused { "; it is being deleted: that waits, too" } else { "" };
    Ok(format!("exposure `{name}` is {} now{deleting}\n", word(paused)))
}

/// The exposure that the settings name, or the only one of our type and class.
async fn the_one(settings: &Settings, exposures: &Exposures) -> anyhow::Result<Exposed> {
    let wish = &settings.exposure;
    let namespace = &wish.namespace;
    if let Some(name) = wish.name() {
        return match patiently(|| exposures.read(name)).await {
            Ok(exposed) => Ok(exposed),
            Err(ApiFailure::NotFound) => {
                bail!("there is no SelfHostedShootExposure `{name}` in namespace `{namespace}`")
            }
            Err(failure) => bail!("reading SelfHostedShootExposure `{name}`: {failure}"),
        };
    }
    let all = patiently(|| exposures.list()).await;
    let all = all.map_err(|failure| anyhow!("listing SelfHostedShootExposures in `{namespace}`: {failure}"))?;
    let mut ours: Vec<Exposed> = all.into_iter().filter(|exposed| is_ours(&exposed.view, settings)).collect();
    match (ours.pop(), ours.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => bail!(
            "there is no SelfHostedShootExposure of type `{}` and class `{}` in namespace `{namespace}`",
            wish.r#type,
            wish.class
        ),
        (Some(last), others) => {
            let names = others.iter().chain([&last]).map(|exposed| exposed.view.name.as_str());
            bail!(Unusable(format!(
                "there are several exposures in `{namespace}`: {}; say which by exposure.name",
                names.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

fn word(paused: bool) -> &'static str {
    if paused { "paused" } else { "not paused" }
}
