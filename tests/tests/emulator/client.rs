//! An emulator and a client with a token, and the bodies that the tests send.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Method;
use pem::parse;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA512, RsaKeyPair};
use serde_json::{Value, json};
use tests::emulator::{Emulator, Handle, KeyOptions, Options, Profile};

/// Longer than anything takes, shorter than patience.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) struct Cloud {
    pub(crate) emulator: Emulator,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

/// Status and body; a body that is not JSON comes as a string.
pub(crate) type Answer = (u16, Value);

impl Cloud {
    /// The fastest emulator, and a token for it.
    pub(crate) async fn start() -> Self {
        Self::with(Options { profile: Profile::Instant, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let emulator = Emulator::start(options).await.unwrap();
        let key = emulator.service_account_key(&KeyOptions::default()).unwrap();
        let http = client();
        let (status, answer) = key_flow(&http, &emulator, &assertion(&key, &json!({}))).await;
        assert_eq!(status, 200, "{answer}");
        emulator.clear_journal();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { emulator, http, token }
    }

    /// The prefix of everything in the home project.
    pub(crate) fn prefix(&self) -> String {
        format!("/v2/projects/{}/regions/{}", self.emulator.project(), self.emulator.region())
    }

    /// A request to a path below the prefix, with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{}{path}", self.emulator.url(), self.prefix());
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    /// POST of a balancer.
    pub(crate) async fn create(&self, body: &Value) -> Answer {
        self.post("/load-balancers", body).await
    }

    /// A balancer as it is once it is ready.
    pub(crate) async fn ready(&self, body: &Value) -> Value {
        let (status, answer) = self.create(body).await;
        assert_eq!(status, 200, "{answer}");
        self.until(body["name"].as_str().unwrap(), "STATUS_READY").await
    }

    /// Waits until a balancer has a status.
    pub(crate) async fn until(&self, name: &str, status: &str) -> Value {
        let shows = |it: &Handle| it.balancer(name).is_some_and(|shown| shown["status"] == status);
        self.emulator.wait_for(shows, SOON).await.unwrap();
        self.emulator.balancer(name).unwrap()
    }

    /// Waits until a balancer is gone.
    pub(crate) async fn until_gone(&self, name: &str) {
        self.emulator.wait_for(|it| it.balancer(name).is_none(), SOON).await.unwrap();
    }
}

pub(crate) fn client() -> reqwest::Client {
    // Every test tries to be first; the provider is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
    (status, body)
}

/// A signed assertion for a key file; `changes` replace claims, and `alg` and `kid` of the header.
pub(crate) fn assertion(key: &Value, changes: &Value) -> String {
    let credentials = &key["credentials"];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let pick = |name: &str, value: Value| if changes[name].is_null() { value } else { changes[name].clone() };
    let header =
        json!({"alg": pick("alg", json!("RS512")), "typ": "JWT", "kid": pick("kid", credentials["kid"].clone())});
    let claims = json!({"iss": pick("iss", credentials["iss"].clone()), "sub": pick("sub", credentials["sub"].clone()),
        "aud": pick("aud", credentials["aud"].clone()), "jti": pick("jti", json!(uuid::Uuid::new_v4().to_string())),
        "iat": now, "exp": pick("exp", json!(now + 3_600))});
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let input = format!("{}.{}", encode(&header), encode(&claims));
    let document = parse(credentials["privateKey"].as_str().unwrap()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(document.contents()).unwrap();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA512, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) async fn key_flow(http: &reqwest::Client, emulator: &Emulator, assertion: &str) -> Answer {
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)];
    answer(http.post(emulator.token_url()).form(&form)).await
}

/// The smallest sensible balancer, with an ephemeral address.
pub(crate) fn balancer(name: &str) -> Value {
    json!({
        "name": name,
        "planId": "p10",
        "networks": [{"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"}],
        "listeners": [{"displayName": "control-plane", "port": 6_443, "protocol": "PROTOCOL_TCP",
            "targetPool": "control-plane", "tcp": {"idleTimeout": "3600s"}}],
        "targetPools": [{"name": "control-plane", "targetPort": 6_443,
            "targets": [{"displayName": "node-1", "ip": "10.250.0.10"}]}],
        "options": {"ephemeralAddress": true},
    })
}

/// The same with changes merged in; `null` takes a field away.
pub(crate) fn changed(body: &Value, changes: &Value) -> Value {
    let mut result = body.clone();
    merge(&mut result, changes);
    result
}

fn merge(target: &mut Value, changes: &Value) {
    let (Some(fields), Some(changes)) = (target.as_object_mut(), changes.as_object()) else {
        *target = changes.clone();
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            fields.shift_remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The body of a PUT that keeps what was read: no name on listeners, no address beside the flag.
pub(crate) fn echo(shown: &Value) -> Value {
    let mut body = shown.clone();
    let fields = body.as_object_mut().unwrap();
    for read_only in
        ["status", "errors", "privateAddress", "region", "loadBalancerSecurityGroup", "targetSecurityGroup"]
    {
        fields.shift_remove(read_only);
    }
    if shown["options"]["ephemeralAddress"] == json!(true) {
        fields.shift_remove("externalAddress");
    }
    for listener in body["listeners"].as_array_mut().unwrap() {
        listener.as_object_mut().unwrap().shift_remove("name");
    }
    body
}
