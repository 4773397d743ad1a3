use serde_json::json;

use super::check::{Exchange, Given};
use super::*;

fn document() -> Document {
    Document::parse(&json!({
        "paths": {"/things/{name}": {
            "get": {"responses": {
                "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                "401": {"content": {"text/plain": {"schema": {"type": "string"}}}},
                "404": {"description": "not found"}}},
            "put": {
                "parameters": [{"in": "header", "name": "X-Request-ID"}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                "responses": {"200": {"description": "done"}, "default": {"description": "not done"}}},
        }},
        "components": {"schemas": {"Thing": {"type": "object", "properties": {
            "count": {"type": "integer", "format": "int32", "minimum": 1},
            "word": {"type": "string", "pattern": "^[a-z]+$", "enum": ["a", "b", "B"]},
            "said": {"type": "string", "readOnly": true},
            "parts": {"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/Thing"}]}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "id": {"type": "string", "format": "uuid"},
        }}}},
    }))
    .unwrap()
}

fn misfits(findings: Findings) -> Vec<(String, Kind)> {
    findings.differences.into_iter().map(|it| (it.misfit.at, it.misfit.kind)).collect()
}

fn sent(body: &Value) -> Vec<(String, Kind)> {
    let exchange =
        Exchange { method: "PUT", path: "/things/a", request: Some(body), by_the_agent: true, ..Exchange::default() };
    misfits(document().check(exchange))
}

fn answered(status: u16, content_type: &str, body: &str) -> Vec<(String, Kind)> {
    let answer = Some(Given { content_type, body });
    let exchange = Exchange { method: "GET", path: "/things/a", answer, status: Some(status), ..Exchange::default() };
    misfits(document().check(exchange))
}

#[test]
fn every_place_that_does_not_fit_is_named() {
    let fine = json!({"count": 1, "word": "a", "parts": [{"count": 2}], "labels": {"x": "y"}, "unknown": 1});
    assert!(sent(&fine).is_empty());
    let body = json!({"count": 0, "word": "B", "said": "x", "parts": [{"count": "7"}, {"word": "c"}, 1, null],
        "labels": {"x": 1}, "id": "x"});
    let at = |at: &str, kind| (at.to_owned(), kind);
    assert_eq!(
        sent(&body),
        [
            at("count", Kind::Range),
            at("word", Kind::Pattern),
            at("said", Kind::ReadOnly),
            at("parts[0].count", Kind::NumberAsText),
            at("parts[1].word", Kind::Choice),
            at("parts[2]", Kind::Type),
            at("parts[3]", Kind::Null),
            at("labels.x", Kind::Type),
            at("id", Kind::Format),
        ]
    );
    assert_eq!(sent(&json!({"count": 1i64 << 40})), [at("count", Kind::Range)]);
    assert_eq!(sent(&json!("no JSON")), [at("", Kind::Type)]);
}

#[test]
fn answers_have_the_status_the_content_type_and_the_shape_of_the_document() {
    let json = "application/json";
    assert!(answered(200, "application/json; charset=utf-8", r#"{"said": "x"}"#).is_empty());
    assert!(answered(401, "text/plain", "no").is_empty() && answered(404, "text/html", "<p>").is_empty());
    let whole = |kind| [(String::new(), kind)];
    assert_eq!(answered(401, json, "{}"), whole(Kind::Media));
    assert_eq!(answered(200, json, "{"), whole(Kind::Type));
    assert_eq!(answered(409, json, "{}"), whole(Kind::Undescribed));
    assert_eq!(answered(200, json, r#"{"count": "1"}"#), [("count".to_owned(), Kind::NumberAsText)]);
}

#[test]
fn what_does_not_fit_may_be_refused_but_not_taken() {
    let body = json!({"count": 0});
    let exchange = |status, by_the_agent| Exchange {
        method: "PUT",
        path: "/things/a",
        request: Some(&body),
        by_the_agent,
        answer: Some(Given { content_type: "", body: "" }),
        status: Some(status),
        ..Exchange::default()
    };
    let check = |status, agent| document().check(exchange(status, agent));
    assert_eq!(check(400, false), Findings { refused: true, differences: Vec::new(), ..check(400, false) });
    assert_eq!(check(200, false).differences[0].side, Side::Taken);
    assert_eq!(check(400, true).differences[0].side, Side::Agent);
    let request_id = Exchange { request_id: Some("1"), request: Some(&json!({})), ..exchange(200, true) };
    assert_eq!(misfits(document().check(request_id)), [("X-Request-ID".to_owned(), Kind::Format)]);
    let elsewhere = [("POST", "/things/a"), ("GET", "/things"), ("GET", "/things/")];
    for (method, path) in elsewhere {
        assert_eq!(document().check(Exchange { method, path, ..Exchange::default() }), Findings::default());
    }
}

#[test]
fn what_is_not_understood_stops_the_reading() {
    let with = |schema: Value| Document::parse(&json!({"paths": {}, "components": {"schemas": {"A": schema}}}));
    for schema in [
        json!({"type": "object", "properties": {"a": {"oneOf": []}}}),
        json!({"type": ["string", "null"]}),
        json!({"$ref": "#/components/schemas/B"}),
        json!({"pattern": "("}),
        json!({"items": 1}),
    ] {
        assert!(with(schema.clone()).is_err(), "{schema}");
    }
    assert!(with(json!({"title": "fine", "type": "string"})).is_ok());
    assert!(Document::parse(&json!({})).is_err());
}

#[test]
fn tallies_add_up() {
    let document = document();
    let exchange = Exchange { method: "GET", path: "/things/a", status: Some(404), ..Exchange::default() };
    let mut tally = Tally::default();
    tally.add(&document.check(exchange), Some(404));
    tally.add(&document.check(Exchange { path: "/", ..exchange }), None);
    tally.join(tally.clone());
    let counts = &tally.operations["GET /things/{name}"];
    assert_eq!((counts[&404], tally.outside, tally.requests()), (2, 2, 2));
    let line = serde_json::to_string(&tally).unwrap();
    assert_eq!(serde_json::from_str::<Tally>(&line).unwrap(), tally);
}
