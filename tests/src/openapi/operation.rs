//! The document's operations, and which one a request asks for.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

const METHODS: [&str; 7] = ["get", "post", "put", "delete", "patch", "head", "options"];

/// What may be asked at a path with a method.
#[derive(Debug)]
pub(super) struct Operation {
    /// `GET /v2/regions/{region}/plans`.
    pub(super) name: String,
    method: String,
    path: Vec<String>,
    /// The schema of the JSON that is sent.
    pub(super) request: Option<Value>,
    /// Whether it knows the header `X-Request-ID`.
    pub(super) takes_request_id: bool,
    /// By status, `default` for all others.
    answers: BTreeMap<String, Body>,
}

/// What an answer looks like.
#[derive(Debug)]
pub(super) enum Body {
    /// The document does not say.
    Unsaid,
    /// A content type and the schema of what it is.
    Of(String, Value),
}

/// What a request is to the document.
pub(super) enum Asked<'a> {
    Operation(&'a Operation),
    /// The path is there, the method is not.
    OtherMethod,
    Nothing,
}

pub(super) fn all(paths: &Map<String, Value>) -> Result<Vec<Operation>> {
    let mut all = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            if METHODS.contains(&method.as_str()) {
                all.push(Operation::new(path, method, operation).with_context(|| format!("{method} {path}"))?);
            }
        }
    }
    Ok(all)
}

pub(super) fn find<'a>(operations: &'a [Operation], method: &str, path: &str) -> Asked<'a> {
    let segments: Vec<&str> = path.split('/').collect();
    let mut there = operations.iter().filter(|operation| operation.is_at(&segments)).peekable();
    if there.peek().is_none() {
        return Asked::Nothing;
    }
    there.find(|operation| operation.method == method).map_or(Asked::OtherMethod, Asked::Operation)
}

impl Operation {
    fn new(path: &str, method: &str, value: &Value) -> Result<Self> {
        let parameters = value["parameters"].as_array().into_iter().flatten();
        let is_request_id = |it: &Value| it["in"] == "header" && it["name"] == "X-Request-ID";
        let answers = value["responses"].as_object().context("no `responses`")?;
        let body = |answer: &Value| {
            let content = answer["content"].as_object().and_then(|content| content.iter().next());
            content.map_or(Body::Unsaid, |(media, content)| Body::Of(media.clone(), content["schema"].clone()))
        };
        let method = method.to_uppercase();
        Ok(Self {
            name: format!("{method} {path}"),
            method,
            path: path.split('/').map(str::to_owned).collect(),
            request: value["requestBody"]["content"]["application/json"].get("schema").cloned(),
            takes_request_id: parameters.into_iter().any(is_request_id),
            answers: answers.iter().map(|(status, answer)| (status.clone(), body(answer))).collect(),
        })
    }

    fn is_at(&self, segments: &[&str]) -> bool {
        let fits = |(own, given): (&String, &&str)| if own.starts_with('{') { !given.is_empty() } else { own == given };
        self.path.len() == segments.len() && self.path.iter().zip(segments).all(fits)
    }

    /// The answer with this status; `None`: the document does not know it.
    pub(super) fn answer(&self, status: u16) -> Option<&Body> {
        self.answers.get(&status.to_string()).or_else(|| self.answers.get("default"))
    }

    /// All schemas it names.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &Value> {
        let answers = self.answers.values().filter_map(|body| match body {
            Body::Of(_, schema) if schema.is_object() => Some(schema),
            _ => None,
        });
        self.request.iter().chain(answers)
    }
}
