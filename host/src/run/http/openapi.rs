//! The OpenAPI document, made of the table of endpoints.

use serde_json::{Map, Value, json};

use super::answers;
use super::api::BY;
use super::endpoints::{Answers, Does, ENDPOINTS, Endpoint, Kind, MOST, Parameter, Upload};

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let method = if endpoint.does == Does::Read { "get" } else { "post" };
        let operations = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(operations) = operations.as_object_mut() {
            operations.insert(method.to_owned(), operation(endpoint));
        }
    }
    for (path, summary, statuses) in [
        ("/healthz", "Whether the process is alive.", &[200][..]),
        ("/readyz", "Whether the host does all of its work.", &[200, 503]),
    ] {
        let responses: Map<_, _> = statuses.iter().map(|status| (status.to_string(), object(summary))).collect();
        paths.insert(path.to_owned(), json!({ "get": { "summary": summary, "security": [], "responses": responses } }));
    }
    paths.insert(
        "/metrics".to_owned(),
        json!({ "get": { "summary": "Numbers for Prometheus.", "responses": {
            "200": { "description": "Prometheus' text format.", "content": { "text/plain": { "schema": { "type": "string" } } } },
        } } }),
    );
    json!({
        "openapi": "3.1.0",
        "info": { "title": "forebay", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "hint"],
                    "properties": { "error": { "type": "string" }, "hint": { "type": ["string", "null"] } },
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let in_path = endpoint.in_path().map(|parameter| (parameter, "path"));
    let in_query = endpoint.in_query().map(|parameter| (parameter, "query"));
    let parameters = in_path.chain(in_query).map(|(parameter, place)| {
        let Parameter { name, to: _, kind, help } = parameter;
        json!({ "name": name, "in": place, "required": parameter.is_required(), "description": help, "schema": schema(*kind) })
    });
    let ok = match endpoint.answers {
        Answers::Object => content_of("Done, or found.", &answers::schema(endpoint.fields)),
        Answers::Lines | Answers::Items(_) => content_of(
            "Found.",
            &json!({
                "type": "object",
                "required": ["items"],
                "properties": { "items": { "type": "array", "items": answers::schema(endpoint.fields) } },
                "additionalProperties": false,
            }),
        ),
    };
    let mut responses = Map::from_iter([("200".to_owned(), ok)]);
    for (status, description, of) in REFUSALS {
        if of.is_none_or(|of| of == (endpoint.does != Does::Read)) {
            responses.insert(status.to_string(), error(description));
        }
    }
    let mut operation = json!({
        "summary": endpoint.help,
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": responses,
    });
    let Some(fields) = operation.as_object_mut() else { return operation };
    match endpoint.does {
        Does::Read => {}
        Does::Change => drop(fields.insert("requestBody".to_owned(), body(endpoint))),
        Does::Upload(upload) => {
            drop(fields.insert("requestBody".to_owned(), json!({ "required": true, "content": content(upload) })));
        }
    }
    if endpoint.does != Does::Read {
        let by = json!({
            "name": BY, "in": "header", "required": false, "schema": { "type": "string" },
            "description": "Who asks, as the ledger tells it with what changed: alice@laptop.",
        });
        if let Some(parameters) = fields.get_mut("parameters").and_then(Value::as_array_mut) {
            parameters.push(by);
        }
        fields.insert("security".to_owned(), json!([{ "token": [] }]));
    }
    operation
}

fn content(upload: Upload) -> Value {
    match upload {
        Upload::Module => json!({ "application/wasm": { "schema": { "type": "string", "format": "binary" } } }),
        Upload::Bundle => {
            let texts = |help: &str| json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": help });
            json!({ "application/json": { "schema": {
                "type": "object",
                "required": ["config"],
                "properties": {
                    "config": texts("The config's files by name; one alone is the host's main file, whatever its name."),
                    "assets": texts("Assets by their paths beside the config, in base64."),
                },
                "additionalProperties": false,
            } } })
        }
    }
}

/// Statuses of refusals, what they mean, and whether only changes (true) or only reads (false) have them.
const REFUSALS: &[(u16, &str, Option<bool>)] = &[
    (400, "The request is not what the path takes.", None),
    (401, "The token is missing.", None),
    (403, "The token is wrong, or the host has none.", None),
    (404, "What is asked for is not there.", None),
    (409, "Refused, so as to keep data whole.", None),
    (413, "The body is too large.", None),
    (422, "Refused with a reason; what was active goes on.", Some(true)),
    (500, "It could not be done.", None),
    (503, "The host is busy, or the config on disk is wrong.", None),
    (504, "It was not done in time.", None),
];

fn body(endpoint: &Endpoint) -> Value {
    let properties = endpoint.in_body().map(|Parameter { name, to: _, kind, help }| {
        let mut schema = schema(*kind);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".to_owned(), Value::from(*help));
        }
        ((*name).to_owned(), schema)
    });
    let properties: Map<_, _> = properties.collect();
    let required: Vec<_> =
        endpoint.in_body().filter(|parameter| parameter.is_required()).map(|parameter| parameter.name).collect();
    json!({
        "required": !required.is_empty(),
        "content": { "application/json": { "schema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        } } },
    })
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Limit => json!({ "type": "integer", "minimum": 1, "maximum": MOST }),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
    }
}

fn object(description: &str) -> Value {
    content_of(description, &json!({ "type": "object" }))
}

fn content_of(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn error(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}
