//! The little of the server's HTTP API that load runs need: approve their own phones and rooms, and
//! list what was accepted. Reads answers leniently: this crate shares no types with the server.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::target::ApiArgs;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const PAGE_ITEMS: usize = 1000;
/// More pages than any run makes; ends a listing that does not advance.
const PAGES_MAX: usize = 100_000;

/// A client of the server's HTTP API.
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    key: Option<String>,
}

impl Api {
    /// `None` when no address was given.
    pub(crate) fn new(args: &ApiArgs) -> anyhow::Result<Option<Api>> {
        let Some(base) = &args.api else { return Ok(None) };
        crate::phone::tls::ensure_provider();
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Some(Api {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: args.api_token.clone(),
            key: args.api_key.clone(),
        }))
    }

    /// Approves everything in `/api/{kind}` that waits and that `ours` recognises; returns how many.
    pub(crate) async fn approve_all(
        &self,
        kind: &str,
        ours: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<usize> {
        let mut approved = 0;
        for item in self.list(kind, |_| false).await? {
            let state = item["approval"].as_str().or_else(|| item["status"].as_str());
            if state == Some("approved") || !ours(&item) {
                continue;
            }
            let mut change = json!({ "approval": "approved" });
            if let Some(revision) = item.get("revision").filter(|revision| !revision.is_null()) {
                change["revision"] = revision.clone();
            }
            let id = id_of(&item).with_context(|| format!("an item of {kind} has no id"))?;
            let url = format!("{}/api/{kind}/{id}", self.base);
            let response = self.sign(self.http.patch(&url)).json(&change).send().await?;
            let status = response.status();
            if !status.is_success() {
                bail!("PATCH {url}: {status} {}", response.text().await.unwrap_or_default());
            }
            approved += 1;
        }
        Ok(approved)
    }

    /// All items of `/api/{kind}`, newest first, until `enough` says that the rest is not wanted.
    pub(crate) async fn list(
        &self,
        kind: &str,
        enough: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut seen_cursors = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let (page, next) = self.page(kind, cursor.as_deref()).await?;
            let last_page = page.len() < PAGE_ITEMS || page.last().is_some_and(&enough);
            let fallback = page.last().and_then(id_of);
            items.extend(page);
            let next = match next {
                Next::Cursor(next) => Some(next),
                Next::End => None,
                // Without a cursor in the answer, pages continue after the last id.
                Next::Unsaid => fallback.filter(|_| !last_page),
            };
            let Some(next) = next.filter(|next| seen_cursors.insert(next.clone())) else { break };
            if items.last().is_some_and(&enough) {
                break;
            }
            cursor = Some(next);
        }
        Ok(items)
    }

    async fn page(&self, kind: &str, after: Option<&str>) -> anyhow::Result<(Vec<Value>, Next)> {
        let mut query = format!("limit={PAGE_ITEMS}");
        if let Some(after) = after {
            query.push_str("&after=");
            query.push_str(after);
        }
        let url = format!("{}/api/{kind}?{query}", self.base);
        let response = self.sign(self.http.get(&url)).send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("GET {url}: {status} {}", response.text().await.unwrap_or_default());
        }
        let answer: Value = response.json().await.with_context(|| format!("GET {url}"))?;
        Ok(read_page(answer))
    }

    fn sign(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        match &self.key {
            Some(key) => request.header("X-API-Key", key),
            None => request,
        }
    }
}

/// What a page says about the one after it.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Cursor(String),
    End,
    Unsaid,
}

/// A list as such, or under `items`, `data` or its own name; the cursor under `next`,
/// `next_after` or `next_cursor`.
fn read_page(answer: Value) -> (Vec<Value>, Next) {
    let Value::Object(mut fields) = answer else {
        let items = if let Value::Array(items) = answer { items } else { Vec::new() };
        return (items, Next::Unsaid);
    };
    let next = ["next", "next_after", "next_cursor"].iter().find_map(|name| fields.get(*name));
    let next = match next {
        Some(Value::String(cursor)) => Next::Cursor(cursor.clone()),
        Some(Value::Number(cursor)) => Next::Cursor(cursor.to_string()),
        Some(_) => Next::End,
        None => Next::Unsaid,
    };
    let list = ["items", "data"].iter().find_map(|name| fields.remove(*name));
    let list = list.or_else(|| fields.into_iter().map(|(_, value)| value).find(Value::is_array));
    match list {
        Some(Value::Array(items)) => (items, next),
        _ => (Vec::new(), next),
    }
}

fn id_of(item: &Value) -> Option<String> {
    ["id", "key"].iter().find_map(|name| match &item[*name] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_with_and_without_a_cursor() {
        let check = |answer, count, next| {
            let (items, got) = read_page(answer);
            assert_eq!((items.len(), got), (count, next));
        };
        check(json!({"items": [1, 2], "next": "7"}), 2, Next::Cursor("7".to_owned()));
        check(json!({"items": [1], "next": null}), 1, Next::End);
        check(json!({"messages": [1], "next": 9}), 1, Next::Cursor("9".to_owned()));
        check(json!([1, 2, 3]), 3, Next::Unsaid);
        check(json!("?"), 0, Next::Unsaid);
    }
}
