//! A server that answers by script, and a service account key, for the tests of this module.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does with a request.
pub(super) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// Takes the request and says nothing.
    Hang,
    /// Takes the request and ends the connection.
    Cut,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self::Answer { status, headers, body: body.to_string() }
    }

    pub(super) fn text(status: u16, kind: &str, body: &str) -> Self {
        Self::Answer { status, headers: vec![("content-type", kind.to_owned())], body: body.to_owned() }
    }

    pub(super) fn with(mut self, header: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((header, value.to_owned()));
        }
        self
    }
}

type Script = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// Ends with the test.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// The script gets the request and how many came before it.
    pub(super) async fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(None, Arc::new(script)).await
    }

    pub(super) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(acceptor), Arc::new(script)).await
    }

    async fn run(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (sender, count) = watch::channel(0);
        let all = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let sender = Arc::new(sender);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (all, script, sender, tls) = (Arc::clone(&all), Arc::clone(&script), sender.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &all, &*script, &sender).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &all, &*script, &sender).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { url, seen, count, task }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits for so many requests.
    pub(super) async fn until(&self, requests: usize) {
        self.count.clone().wait_for(|count| *count >= requests).await.unwrap();
    }
}

/// Serves one connection until it ends; `None` when the client ends it.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    all: &Mutex<Vec<Seen>>,
    script: &Script,
    sender: &watch::Sender<usize>,
) -> Option<()> {
    let mut stream = BufStream::new(stream);
    loop {
        let seen = request(&mut stream).await?;
        let reply = {
            let mut all = all.lock().unwrap();
            all.push(seen);
            let before = all.len() - 1;
            script(&all[before], before)
        };
        sender.send_modify(|count| *count += 1);
        match reply {
            Reply::Answer { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.extend([name, ": ", &value, "\r\n"]);
                }
                stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
                return stream.shutdown().await.ok();
            }
            Reply::Hang => std::future::pending().await,
            Reply::Cut => return None,
        }
    }
}

async fn request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut parts = line.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, path, headers, body: String::from_utf8(body).unwrap() })
}

/// A fresh RSA key, made once for all tests of a process.
pub(super) struct Keys {
    pub(super) pkcs8: String,
    pub(super) pkcs1: String,
    pub(super) public_pem: String,
    pub(super) public_der: Vec<u8>,
}

pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).unwrap();
        let public = key.to_public_key();
        Keys {
            pkcs8: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
            pkcs1: key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string(),
            public_pem: public.to_public_key_pem(LineEnding::LF).unwrap(),
            public_der: public.to_pkcs1_der().unwrap().into_vec(),
        }
    })
}

/// A service account key file as STACKIT issues it.
pub(super) fn key_file() -> Value {
    json!({
        "active": true,
        "createdAt": "2026-01-01T00:00:00.000+00:00",
        "id": "4ef3a8a0-3d8a-4f3b-8f0e-1d0a6a1f0001",
        "keyAlgorithm": "RSA_2048",
        "keyOrigin": "GENERATED",
        "keyType": "USER_MANAGED",
        "publicKey": keys().public_pem,
        "validUntil": null,
        "credentials": {
            "aud": "https://stackit-service-account-prod.apps.01.cf.eu01.stackit.cloud",
            "iss": "agent@sa.stackit.cloud",
            "kid": "4ef3a8a0-3d8a-4f3b-8f0e-1d0a6a1f0002",
            "privateKey": keys().pkcs8,
            "sub": "4ef3a8a0-3d8a-4f3b-8f0e-1d0a6a1f0003"
        }
    })
}

/// A JWT with these claims and no valid signature.
pub(super) fn jwt(claims: &Value) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "none"})), part(claims))
}

/// The n-th access token, valid for `life` seconds.
pub(super) fn access_token(number: usize, life: u64) -> String {
    jwt(&json!({"exp": seconds(SystemTime::now()) + life, "number": number}))
}

/// What the token endpoint answers.
pub(super) fn grant(token: &str) -> Reply {
    Reply::json(200, &json!({"access_token": token, "expires_in": 3600, "refresh_token": "", "token_type": "Bearer"}))
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}
