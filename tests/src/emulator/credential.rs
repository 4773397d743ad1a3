//! Credentials for observability (E87, E88).

use serde_json::{Value, json};

use super::answer::{Answer, Check, Reply, require};
use super::quota;
use super::shape::{CREDENTIAL, read};
use super::state::{PlaceKey, State};
use super::validate::text;

/// What is kept of a credential; the password is checked and forgotten, since nothing here uses it.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    display_name: String,
    username: String,
}

impl Credential {
    fn show(&self, reference: &str, region: &str) -> Value {
        json!({"credentialsRef": reference, "displayName": self.display_name, "username": self.username, "region": region})
    }
}

fn not_found() -> Answer {
    Answer::problem(404, "credential reference not found")
}

pub(crate) fn list(state: &mut State, key: &PlaceKey) -> Value {
    let place = state.place(key);
    let shown: Vec<Value> = place.credentials.iter().map(|(reference, it)| it.show(reference, &key.region)).collect();
    json!({"credentials": shown})
}

pub(crate) fn create(state: &mut State, key: &PlaceKey, body: &str) -> Reply {
    let credential = parse(state, body)?;
    let switches = state.switches.clone();
    let place = state.place(key);
    quota::room_for_credential(place, &switches)?;
    let reference = format!("credentials-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let shown = credential.show(&reference, &key.region);
    place.credentials.insert(reference, credential);
    Ok(json!({"credential": shown}))
}

pub(crate) fn get(state: &mut State, key: &PlaceKey, reference: &str) -> Reply {
    let found = state.place(key).credentials.get(reference).ok_or_else(not_found)?;
    Ok(json!({"credential": found.show(reference, &key.region)}))
}

pub(crate) fn update(state: &mut State, key: &PlaceKey, reference: &str, body: &str) -> Reply {
    let credential = parse(state, body)?;
    let stored = state.place(key).credentials.get_mut(reference).ok_or_else(not_found)?;
    let shown = credential.show(reference, &key.region);
    *stored = credential;
    Ok(json!({"credential": shown}))
}

pub(crate) fn delete(state: &mut State, key: &PlaceKey, reference: &str) -> Reply {
    let status = state.switches.credential_in_use_status;
    let place = state.place(key);
    if place.balancers.values().any(|balancer| balancer.credentials().contains(&reference)) {
        return Err(Answer::problem(status, "credential is in use by a load balancer"));
    }
    place.credentials.remove(reference);
    Ok(json!({}))
}

fn parse(state: &State, body: &str) -> Result<Credential, Answer> {
    let body = read(&CREDENTIAL, body, state.switches.reject_unknown_fields)?;
    display_name(text(&body, "displayName"))?;
    require(!text(&body, "username").is_empty(), "E87", "username", "is needed")?;
    require(!text(&body, "password").is_empty(), "E87", "password", "is needed")?;
    Ok(Credential { display_name: text(&body, "displayName").to_owned(), username: text(&body, "username").to_owned() })
}

fn display_name(name: &str) -> Check {
    let fine = (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    require(fine, "E87", "displayName", "must be 1 to 253 of a-z, 0-9 and inner dashes")
}
