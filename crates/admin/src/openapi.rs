//! The OpenAPI 3.1 document, made from the route table, so that it cannot be wrong about a route.

use serde_json::{Map, Value, json};

use crate::auth::Access;
use crate::error::Code;
use crate::options::AdminOptions;
use crate::routes::{Answer, Endpoint, SchemaBook, endpoints};

/// The document, as it stands in `docs/api/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let endpoints = endpoints(&AdminOptions::new(([127, 0, 0, 1], 0).into()));
    let mut book = SchemaBook::new();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in &endpoints {
        let operation = operation(endpoint, &mut book);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.label()).collect();
    book.insert(
        "Error".to_owned(),
        json!({
            "type": "object",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["code", "message", "request_id"],
                "properties": {
                    "code": { "type": "string", "enum": codes },
                    "message": { "type": "string", "description": "For people." },
                    "request_id": { "type": "string", "description": "Also in X-Request-Id." },
                },
            }},
        }),
    );
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Naru",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The operator's API. See docs/operations/api.md.",
        },
        "servers": [{ "url": "http://127.0.0.1:8080" }],
        "paths": paths,
        "components": {
            "schemas": book,
            "responses": { "Error": {
                "description": "Not done; `error.code` says why.",
                "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Error" },
                }},
            }},
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
        },
    });
    let mut text = format!("{document:#}");
    text.push('\n');
    text
}

fn operation(endpoint: &Endpoint, book: &mut SchemaBook) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "tags": [tag(endpoint.path)],
        "responses": responses(endpoint, book),
    });
    let mut parameters = path_parameters(endpoint.path);
    if let Some(query) = endpoint.query {
        parameters.extend(query_parameters(query(book), book));
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = endpoint.body {
        let schema = body(book);
        operation["requestBody"] = json!({
            "required": true, "content": { "application/json": { "schema": schema } },
        });
    }
    if let Access::Role(role, reach) = endpoint.access {
        operation["security"] = json!([{ "token": [] }, { "key": [] }]);
        operation["x-role"] = json!(role.label());
        operation["x-whole-node"] = json!(reach == crate::auth::Reach::Node);
    }
    operation
}

fn tag(path: &str) -> &str {
    path.trim_start_matches("/api").trim_start_matches('/').split('/').next().unwrap_or_default()
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let kind = if name == "id" { "integer" } else { "string" };
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
        })
        .collect()
}

/// The properties of the query's struct, which is no schema of its own.
fn query_parameters(reference: Value, book: &mut SchemaBook) -> Vec<Value> {
    let name = reference["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let Some(schema) = name.and_then(|name| book.remove(name)) else { return Vec::new() };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let parameter = |(name, property): (&String, &Value)| {
        let mut property = property.clone();
        let description = property.as_object_mut().and_then(|own| own.remove("description"));
        let mut parameter = json!({
            "name": name, "in": "query", "required": required.contains(&name.as_str()),
            "schema": property,
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.iter().map(parameter).collect()
}

fn responses(endpoint: &Endpoint, book: &mut SchemaBook) -> Value {
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let (status, success) = match endpoint.answer {
        Answer::One(status, schema) => {
            (status, json!({ "description": "Done.", "content": content(schema(book)) }))
        }
        Answer::List(schema) => {
            let items = schema(book);
            let page = json!({
                "type": "object",
                "required": ["items", "next"],
                "properties": {
                    "items": { "type": "array", "items": items },
                    "next": {
                        "type": ["string", "null"],
                        "description": "Send it as `after` for the next page; null on the last.",
                    },
                },
            });
            (200, json!({ "description": "One page.", "content": content(page) }))
        }
        Answer::Nothing => (204, json!({ "description": "Done." })),
        Answer::Text(kind) => {
            let content = json!({ kind: { "schema": { "type": "string" } } });
            (200, json!({ "description": "Done.", "content": content }))
        }
    };
    json!({
        status.to_string(): success,
        "default": { "$ref": "#/components/responses/Error" },
    })
}
