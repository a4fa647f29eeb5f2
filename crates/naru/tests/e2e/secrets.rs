//! What must not be readable: chat text at rest with a key, personal data for viewers, tokens in URLs.

use serde_json::json;

use crate::harness::{Phone, Script, Server, eventually, http};

#[test]
fn chat_text_is_unreadable_on_disk_when_a_key_is_configured_and_survives_a_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, format!("1:{}\n", "ab".repeat(32))).unwrap();
    let mut server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        &format!("store.encryption_key_file={}", path.display()),
    ]);
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.say("# echo canary-in-the-mine");
    assert_eq!(phone.reply(), "에코: canary-in-the-mine");
    drop(phone);
    let files = || -> Vec<u8> {
        std::fs::read_dir(server.dir())
            .unwrap()
            .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default())
            .collect()
    };
    let contains = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|w| w == word);
    assert!(!contains(&files(), b"canary-in-the-mine"));

    std::fs::write(&path, format!("2:{}\n1:{}\n", "cd".repeat(32), "ab".repeat(32))).unwrap();
    server.kill_and_restart();
    let (_, list) = server.api("GET", "/api/messages", None);
    assert_eq!(list["items"][0]["text"], "# echo canary-in-the-mine");
}

#[test]
fn a_viewer_sees_no_personal_data_and_may_change_nothing() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.assert_quiet();
    let body = json!({ "name": "eyes", "role": "viewer" });
    let (status, token) = server.api("POST", "/api/tokens", Some(&body));
    assert!(status == 200 || status == 201, "{token}");
    let secret = token["token"].as_str().or(token["secret"].as_str()).expect("the secret, once");
    let headers = format!("Authorization: Bearer {secret}\r\n");
    let (status, text) = http(server.http, "GET", "/api/messages", &headers, None);
    assert_eq!(status, 200, "{text}");
    assert!(!text.contains("nothing before this") && !text.contains("지우"), "{text}");
    let change = json!({ "approval": "blocked" });
    let (status, _) = http(server.http, "PATCH", "/api/devices/1", &headers, Some(&change));
    assert_eq!(status, 403);
    let (status, _) = http(server.http, "GET", "/api/messages", "", None);
    assert_eq!(status, 401);
}

#[test]
fn a_token_in_the_address_is_refused() {
    let server = Server::auto();
    let (status, text) = http(server.http, "GET", "/api/devices?token=abc", "", None);
    assert_eq!(status, 400, "{text}");
}

#[test]
fn what_operators_do_stands_in_the_audit_log_and_the_chain_holds() {
    let server = Server::with(&[]);
    drop(Phone::connect(server.bridge, Script::Json));
    let id = eventually("the device is known", || {
        Some(server.device(crate::harness::DEVICE)?["id"].to_string())
    });
    assert!(server.naru(&["devices", "approve", &id]).status.success());
    let list = server.naru_json(&["audit", "list"]);
    let rows = list["items"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["object"] == format!("device:{id}")), "{list}");
    assert!(server.naru(&["audit", "verify"]).status.success());
}
