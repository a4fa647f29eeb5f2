//! The committed documents against the code.

use std::path::PathBuf;

use serde_json::Value;

fn committed(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../..")
        .join(path)
}

/// `NARU_UPDATE_DOCS=1 cargo test -p naru-admin` writes the file anew.
#[test]
fn the_committed_openapi_document_is_the_one_of_this_code() {
    let path = committed("docs/api/openapi.json");
    let made = naru_admin::openapi_json();
    if std::env::var_os("NARU_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/api/openapi.json is old; run: NARU_UPDATE_DOCS=1 cargo test -p naru-admin documents"
    );
}

#[test]
fn the_openapi_document_refers_only_to_what_it_has() {
    let document: Value = serde_json::from_str(&naru_admin::openapi_json()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 60);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let routes = naru_admin::route_accesses();
    for route in routes {
        let method = route.method.to_ascii_lowercase();
        let operation = &document["paths"][route.path][&method];
        let role = route.role.map(naru_domain::work::Role::label);
        assert_eq!(operation["x-role"].as_str(), role, "{} {}", method, route.path);
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                references.push(reference.to_owned());
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => (),
    }
}

#[test]
fn the_operations_page_names_every_route_and_every_error_code() {
    let page = std::fs::read_to_string(committed("docs/operations/api.md")).unwrap();
    for route in naru_admin::route_accesses() {
        let role = route.role.map_or("open", naru_domain::work::Role::label);
        let row = format!("| `{} {}` | {role} |", route.method, route.path);
        assert!(page.contains(&row), "{row} is not in docs/operations/api.md");
    }
    let document: Value = serde_json::from_str(&naru_admin::openapi_json()).unwrap();
    let codes = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]
        ["enum"];
    for code in codes.as_array().unwrap() {
        let code = format!("`{}`", code.as_str().unwrap());
        assert!(page.contains(&code), "{code} is not in docs/operations/api.md");
    }
}
