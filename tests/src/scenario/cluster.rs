//! The API server in memory: one `SelfHostedShootExposure`, stored as JSON.
//!
//! It does what the agent relies on: resource versions that refuse an outdated write, generations that follow `spec`, a
//! status that is written apart, finalizers that hold a deletion up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use shoot_exposure_agent::cluster::exposures::{Exposed, Exposures, view};

/// The object's name, and the shoot's.
pub(super) const NAME: &str = "root";
const NAMESPACE: &str = "kube-system";

/// A cheap clone of access to the API server.
#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    object: Option<Value>,
    version: u64,
    objects: u64,
    webhook_down: bool,
    down: bool,
}

impl Cluster {
    /// The agent's own client, talking to this API server.
    pub(super) fn exposures(&self) -> Exposures {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { cluster.answer(request).await }
        });
        Exposures::new(Api::namespaced(Client::new(service, NAMESPACE), NAMESPACE))
    }

    /// Somebody makes the object; `spec` is laid over the usual one.
    pub(super) fn create(&self, spec: &Value) {
        let mut store = self.store();
        store.objects += 1;
        let mut all = json!({"type": "stackit", "port": 443, "endpoints": []});
        merge(&mut all, spec);
        let object = json!({
            "apiVersion": "extensions.gardener.cloud/v1alpha1", "kind": "SelfHostedShootExposure",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": format!("uid-{}", store.objects), "generation": 1},
            "spec": all,
        });
        store.put(object);
    }

    /// Somebody else changes the object by a merge patch. False if there is none.
    pub(super) fn patch(&self, patch: &Value) -> bool {
        let mut store = self.store();
        let Some(mut object) = store.object.clone() else { return false };
        merge(&mut object, patch);
        store.put(object);
        true
    }

    /// Somebody deletes the object: it stays while it has finalizers. False if there is none.
    pub(super) fn delete(&self) -> bool {
        self.patch(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))
    }

    /// The object as stored.
    pub(super) fn object(&self) -> Option<Value> {
        self.store().object.clone()
    }

    /// The object as a watch shows it.
    pub(super) fn watched(&self) -> Result<Option<Exposed>> {
        let Some(object) = self.object() else { return Ok(None) };
        let object: DeserializeGuard<_> = serde_json::from_value(object).context("reading the object")?;
        view(object).map(|(_, exposed)| Some(exposed)).map_err(anyhow::Error::msg)
    }

    /// The validating webhook cannot be reached and fails closed: every write to metadata and spec is refused.
    pub(super) fn set_webhook_down(&self, down: bool) {
        self.store().webhook_down = down;
    }

    /// The API server does not store anything (etcd is away).
    pub(super) fn set_down(&self, down: bool) {
        self.store().down = down;
    }

    pub(super) fn is_down(&self) -> bool {
        self.store().down
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let answer = self.store().answer(&parts.method, parts.uri.path(), &body);
        let (code, value) = answer.unwrap_or_else(|(code, message)| (code, failure(code, message)));
        let response = Response::builder().status(code).header("content-type", "application/json");
        Ok(response.body(Body::from(value.to_string().into_bytes()))?)
    }
}

type Answer = Result<(u16, Value), (u16, &'static str)>;

impl Store {
    fn answer(&mut self, method: &Method, path: &str, sent: &Value) -> Answer {
        if self.down {
            return Err((500, "etcdserver: request timed out"));
        }
        let Some(mut object) = self.object.clone() else { return Err((404, "not found")) };
        if *method == Method::GET {
            return Ok((200, object));
        }
        let status = path.ends_with("/status");
        if self.webhook_down && !status {
            return Err((500, "failed calling webhook \"validation.extensions\": connection refused"));
        }
        for field in ["resourceVersion", "uid"] {
            let given = &sent["metadata"][field];
            if !given.is_null() && *given != object["metadata"][field] {
                return Err((409, "the object has been modified"));
            }
        }
        if status {
            merge(&mut object, &json!({"status": sent["status"]}));
        } else {
            // An apply names a list as a whole, so for this object it is a merge patch like the others.
            merge(&mut object, sent);
        }
        Ok((200, self.put(object)))
    }

    /// Stores it, if it is to stay; gives back how it is.
    fn put(&mut self, mut object: Value) -> Value {
        let before = self.object.as_ref();
        if before == Some(&object) {
            return object;
        }
        self.version += 1;
        let changed = before.is_some_and(|before| before["spec"] != object["spec"]);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default() + i64::from(changed);
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let gone = !object["metadata"]["deletionTimestamp"].is_null() && !held;
        self.object = (!gone).then(|| object.clone());
        object
    }
}

fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 409 { "Conflict" } else { "" };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// A merge patch (RFC 7396).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in fields {
        if value.is_null() {
            target.shift_remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
