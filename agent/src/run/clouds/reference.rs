//! Credentials in a Secret: `stackit.credentials: SecretRef` follows `spec.credentialsRef` of the exposure.
//!
//! Only that one Secret is read, by its name: the agent has no right to any other.

use std::collections::{BTreeMap, BTreeSet};

use decide::exposure::is_ours;
use decide::settings::{CredentialsSource, Settings};
use k8s_openapi::api::core::v1;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cluster::exposures::Exposed;
use crate::cluster::watch::{Read, Watched, follow};
use crate::host::secret::Secret;
use crate::run::settings::Live;

/// The data of a Secret.
pub type Data = Secret<BTreeMap<String, Vec<u8>>>;

/// The Secret as last seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// Namespace and name.
    pub name: String,
    /// What it holds; `None` while nothing was read of it.
    pub data: Option<Data>,
    /// Why nothing was read, or nothing newer.
    pub problem: Option<String>,
}

/// Follows the Secret that the exposures name, whenever the settings ask for it, without end.
pub async fn watch(
    mut live: Live,
    mut exposures: watch::Receiver<Watched<Exposed>>,
    client: Client,
    out: watch::Sender<Reference>,
) {
    loop {
        let wanted = wanted(&live.borrow_and_update(), &exposures.borrow_and_update());
        match &wanted {
            None => {}
            Some(Err(problem)) => tell(&out, Reference { problem: Some(problem.clone()), ..Reference::default() }),
            Some(Ok((namespace, name))) => {
                info!(namespace, name, "following the credentials' Secret");
                let api: Api<v1::Secret> = Api::namespaced(client.clone(), namespace);
                let (seen, mut secrets) = watch::channel(Watched::default());
                let following =
                    follow("the credentials' Secret", api, Some(format!("metadata.name={name}")), view, seen);
                tokio::pin!(following);
                loop {
                    tell(&out, reference(namespace, name, &secrets.borrow_and_update()));
                    tokio::select! {
                        () = &mut following => return,
                        Ok(()) = secrets.changed() => {}
                        Ok(()) = live.changed() => {}
                        Ok(()) = exposures.changed() => {}
                    }
                    let now = self::wanted(&live.borrow_and_update(), &exposures.borrow_and_update());
                    // Between deletion and return of the object the Secret stays the same.
                    if now != wanted && !matches!(now, Some(Err(_))) {
                        break;
                    }
                }
                continue;
            }
        }
        let gone = tokio::select! {
            change = live.changed() => change.is_err(),
            change = exposures.changed() => change.is_err(),
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

fn tell(out: &watch::Sender<Reference>, reference: Reference) {
    out.send_if_modified(|last| {
        let changed = *last != reference;
        *last = reference;
        changed
    });
}

/// Which Secret the exposures name, or why none; `None` where nobody asks.
fn wanted(settings: &Settings, exposures: &Watched<Exposed>) -> Option<Result<(String, String), String>> {
    if settings.stackit.credentials != CredentialsSource::SecretRef {
        return None;
    }
    let ours = || exposures.items.values().map(|exposed| &exposed.view).filter(|view| is_ours(view, settings));
    let named: BTreeSet<&(String, String)> = ours().filter_map(|view| view.credentials.as_ref()).collect();
    let own = &settings.exposure.namespace;
    let mut named = named.into_iter();
    Some(match (named.next(), ours().next()) {
        (Some((namespace, name)), _) if namespace.is_empty() || namespace == own => {
            if named.next().is_some() {
                warn!(secret = name, "exposures name different Secrets in spec.credentialsRef; one is used for all");
            }
            Ok((own.clone(), name.clone()))
        }
        (Some((namespace, name)), _) => Err(format!(
            "spec.credentialsRef names Secret {namespace}/{name}; only Secrets in {own} are read. Copy it there, or mount \
             it and set stackit.credentials to Mounted"
        )),
        (None, Some(view)) => Err(format!(
            "SelfHostedShootExposure `{}` has no spec.credentialsRef; set it, or set stackit.credentials to Mounted",
            view.name
        )),
        (None, None) => {
            Err("there is no SelfHostedShootExposure yet whose spec.credentialsRef could be followed".to_owned())
        }
    })
}

fn reference(namespace: &str, name: &str, secrets: &Watched<Data>) -> Reference {
    let data = secrets.items.get(name).cloned();
    let unread = match (&data, secrets.listed) {
        (Some(_), _) => None,
        (None, true) => Some("there is no such Secret".to_owned()),
        (None, false) => Some("not read yet".to_owned()),
    };
    Reference { name: format!("{namespace}/{name}"), data, problem: secrets.problem.clone().or(unread) }
}

fn view(secret: v1::Secret) -> Read<Data> {
    let name = secret.metadata.name.ok_or("a Secret without a name")?;
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Ok((name, Secret::new(data)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use decide::exposure::ExposureView;

    use super::*;

    fn exposures(reference: Option<(&str, &str)>) -> Watched<Exposed> {
        let view = ExposureView {
            name: "root".to_owned(),
            kind: "stackit".to_owned(),
            credentials: reference.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            ..ExposureView::default()
        };
        let exposed = Exposed { view, resource_version: "1".to_owned(), finalizers: Vec::new(), ingress: Vec::new() };
        Watched { items: Arc::new(BTreeMap::from([("root".to_owned(), exposed)])), listed: true, problem: None }
    }

    #[test]
    fn only_a_secret_beside_the_exposure_is_followed() {
        let mut settings = Settings::default();
        let named = exposures(Some(("kube-system", "cloudprovider")));
        assert_eq!(wanted(&settings, &named), None);
        settings.stackit.credentials = CredentialsSource::SecretRef;
        let wanted = |exposures: &Watched<Exposed>| wanted(&settings, exposures).unwrap();
        let expected = Ok(("kube-system".to_owned(), "cloudprovider".to_owned()));
        assert_eq!(wanted(&named), expected);
        assert_eq!(wanted(&exposures(Some(("", "cloudprovider")))), expected);
        assert!(wanted(&exposures(Some(("garden", "x")))).unwrap_err().contains("garden/x"));
        assert!(wanted(&exposures(None)).unwrap_err().contains("`root` has no spec.credentialsRef"));
        assert!(wanted(&Watched::default()).unwrap_err().contains("no SelfHostedShootExposure yet"));
    }
}
