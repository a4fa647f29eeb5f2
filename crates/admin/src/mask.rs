//! Hides personal data from those who may look but not read: one function per kind of data. Masking
//! happens here, on the server, so that no client ever holds what its user may not see.

use naru_domain::work::Role;

/// Whether this reader sees personal data as it is.
pub(crate) fn sees_all(role: Role) -> bool {
    role >= Role::Operator
}

/// A person's or a room's name: its first letter stays, so that lists remain readable.
pub(crate) fn name(role: Role, raw: &str) -> String {
    if sees_all(role) || raw.is_empty() {
        return raw.to_owned();
    }
    raw.chars().take(1).chain("***".chars()).collect()
}

/// A chat text: only its length stays.
pub(crate) fn text(role: Role, raw: &str) -> String {
    if sees_all(role) || raw.is_empty() {
        return raw.to_owned();
    }
    format!("[{} characters]", raw.chars().count())
}

/// An address: only its family stays, and the first number of an IPv4 one.
pub(crate) fn address(role: Role, raw: &str) -> String {
    if sees_all(role) || raw.is_empty() {
        return raw.to_owned();
    }
    match raw.split_once('.') {
        Some((first, _)) if first.len() <= 3 && first.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{first}.*.*.*")
        }
        _ => "*".to_owned(),
    }
}

/// A device id: enough of it stays to tell two phones apart.
pub(crate) fn device(role: Role, raw: &str) -> String {
    if sees_all(role) || raw.is_empty() {
        return raw.to_owned();
    }
    raw.chars().take(3).chain("***".chars()).collect()
}

/// A hash that stands for a person: it would join what masking keeps apart.
pub(crate) fn hash(role: Role, raw: Option<&str>) -> Option<String> {
    raw.filter(|_| sees_all(role)).map(str::to_owned)
}

/// What stands for a secret. Bot work takes it back as "unchanged" when settings are written.
const SECRET_MASK: &str = "********";

/// A document of settings: secrets are hidden from all, so that what was read can be edited and written
/// back; addresses of targets and people are hidden from viewers.
pub(crate) fn settings(role: Role, document: &mut serde_json::Value) {
    match document {
        serde_json::Value::Object(fields) => {
            for (field, value) in fields {
                let is_secret = field.contains("secret") || field.contains("password");
                let is_private = matches!(field.as_str(), "url" | "sender" | "user_hash");
                if (is_secret || (is_private && !sees_all(role))) && !value.is_null() {
                    *value = serde_json::Value::from(SECRET_MASK);
                } else {
                    settings(role, value);
                }
            }
        }
        serde_json::Value::Array(items) => {
            items.iter_mut().for_each(|item| settings(role, item));
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_see_shapes_and_operators_see_all() {
        let check = |mask: fn(Role, &str) -> String, raw: &str, masked: &str| {
            assert_eq!(mask(Role::Viewer, raw), masked);
            assert_eq!(mask(Role::Operator, raw), raw);
            assert_eq!(mask(Role::Admin, raw), raw);
        };
        check(name, "홍길동", "홍***");
        check(name, "", "");
        check(text, "안녕 세상", "[5 characters]");
        check(address, "192.168.0.12", "192.*.*.*");
        check(address, "2001:db8::1", "*");
        check(address, "::ffff:10.0.0.1", "*");
        check(device, "0123456789abcdef", "012***");
    }

    #[test]
    fn nobody_sees_secrets_in_settings_and_viewers_no_people() {
        let full = serde_json::json!({
            "webhook": {"url": "https://x", "secret": "s", "previous_secret": null},
            "admins": [{"sender": "kim"}],
        });
        let mut seen = full.clone();
        settings(Role::Admin, &mut seen);
        let webhook = serde_json::json!({
            "url": "https://x", "secret": "********", "previous_secret": null
        });
        assert_eq!(seen["webhook"], webhook);
        assert_eq!(seen["admins"], full["admins"]);
        settings(Role::Viewer, &mut seen);
        assert_eq!(seen["webhook"]["url"], "********");
        assert_eq!(seen["admins"][0]["sender"], "********");
    }
}
