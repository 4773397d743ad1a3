//! Objects of any kind, from YAML.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};

use crate::wait::until;

/// Who the tests say they are when they apply something.
pub const FIELD_MANAGER: &str = "tests";

const DEADLINE: Duration = Duration::from_secs(30);

/// Applies all documents of all `manifests`, in their order, and returns what the API server made of them.
///
/// A `CustomResourceDefinition` is awaited before the next document, which may be of its kind. Without a
/// namespace in it, an object goes to the client's own.
pub async fn apply<T: AsRef<str>>(client: &Client, manifests: &[T]) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for manifest in manifests {
        let objects: Vec<DynamicObject> =
            serde_saphyr::from_multiple(manifest.as_ref()).context("reading a manifest")?;
        for object in objects {
            applied.push(apply_one(client, object).await?);
        }
    }
    Ok(applied)
}

async fn apply_one(client: &Client, object: DynamicObject) -> Result<DynamicObject> {
    let types = object.types.as_ref().context("an object without apiVersion and kind")?;
    let (kind, name) = (types.kind.clone(), object.name_any());
    let gvk = GroupVersionKind::try_from(types).with_context(|| format!("reading the apiVersion of {kind} {name}"))?;
    // Another API server learns of a new kind a moment later than the one that was told.
    let (resource, capabilities) =
        until(&format!("{kind} of {} to be served", gvk.api_version()), DEADLINE, || async {
            Ok(pinned_kind(client, &gvk).await?)
        })
        .await?;
    let api: Api<DynamicObject> = match (&capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api
        .patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("applying {kind} {name}"))?;
    if kind == "CustomResourceDefinition" {
        established(client, &name).await?;
    }
    Ok(applied)
}

/// Waits until objects of this `CustomResourceDefinition` can be made.
pub async fn established(client: &Client, name: &str) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    until(&format!("{name} to be established"), DEADLINE, || async {
        let definition = definitions.get(name).await?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        let condition = conditions.iter().find(|condition| condition.type_ == "Established");
        let condition = condition.ok_or_else(|| anyhow!("no condition Established"))?;
        ensure!(condition.status == "True", "Established is {}: {:?}", condition.status, condition.message);
        Ok(())
    })
    .await
}
