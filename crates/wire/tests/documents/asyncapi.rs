//! What both AsyncAPI documents have in common, and the rules that hold for both. That they are valid AsyncAPI is
//! checked with its own parser in `clients/asyncapi`.

use serde_json::{Map, Value, json};

/// The version of the documents is that of the product.
pub(crate) fn info(title: &str, description: &str) -> Value {
    json!({
        "title": title,
        "version": env!("CARGO_PKG_VERSION"),
        "description": description,
        "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
    })
}

pub(crate) fn reference(path: &str) -> Value {
    json!({ "$ref": format!("#/{path}") })
}

/// An object in which nothing else may stand.
pub(crate) fn closed(fields: Value, required: &[&str]) -> Value {
    let mut schema = json!({
        "type": "object", "additionalProperties": false, "properties": fields,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

pub(crate) fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}

/// All values of `$ref` in a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => found.push(target),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for document in [crate::centrifuge::document(), crate::stomp::document()] {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for target in found {
            let path = target.strip_prefix('#').expect("within the document");
            assert!(document.pointer(path).is_some(), "{target}");
        }
    }
}
