//! Addresses of webhooks: never a panic, and no literal private address gets through.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_outbound::AddressGuard;

fuzz_target!(|text: &str| {
    let guard = AddressGuard::public_only();
    let Ok(url) = guard.check_url(text) else { return };
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none());
    // A host that is an address reads back as one, whatever its spelling was.
    if let Some(Ok(address)) =
        url.host_str().map(|host| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>())
    {
        assert!(guard.check_address(address).is_ok());
    }
});
