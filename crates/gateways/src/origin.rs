//! Which web pages may open a WebSocket. Only browsers send an origin, and only they must be kept from
//! acting for a user on behalf of somebody else's page.

use naru_hub::access::fits;

/// Whether a page may connect. `host` is what the request was sent to. Without patterns only pages from
/// that same host may; a pattern may hold `*` for any run of characters, such as `https://*.example.com`.
#[must_use]
pub fn is_allowed(origin: Option<&str>, host: Option<&str>, patterns: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if patterns.is_empty() {
        let of_page = origin.split_once("://").map(|(_, rest)| rest);
        return match (of_page, host) {
            (Some(page), Some(host)) => page.eq_ignore_ascii_case(host),
            _ => false,
        };
    }
    let origin = origin.to_ascii_lowercase();
    patterns.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_no_browsers_may_connect() {
        assert!(is_allowed(None, Some("a.example"), &[]));
        assert!(is_allowed(None, None, &["https://a.example".to_owned()]));
    }

    #[test]
    fn without_patterns_only_the_same_host_may() {
        assert!(is_allowed(Some("https://A.example:8080"), Some("a.example:8080"), &[]));
        assert!(!is_allowed(Some("https://b.example"), Some("a.example"), &[]));
        assert!(!is_allowed(Some("null"), Some("a.example"), &[]));
        assert!(!is_allowed(Some("https://a.example"), None, &[]));
    }

    #[test]
    fn patterns_name_pages_with_stars() {
        let patterns = ["https://*.example.com".to_owned(), "http://localhost:*".to_owned()];
        for (origin, may) in [
            ("https://app.example.com", true),
            ("https://APP.example.com", true),
            ("https://example.com", false),
            ("https://app.example.com.evil.test", false),
            ("http://app.example.com", false),
            ("http://localhost:3000", true),
            ("null", false),
        ] {
            assert_eq!(is_allowed(Some(origin), Some("x"), &patterns), may, "{origin}");
        }
        assert!(is_allowed(Some("https://x.test"), None, &["*".to_owned()]));
    }
}
