//! Tokens of every algorithm, good and bad. Keys are made anew in each run.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use naru_domain::Timestamp;
use naru_domain::ports::ChannelRight;
use rcgen::KeyPair;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    ConnectClaims, InvalidToken, Overrides, ServerSubscription, TokenError, TokenKeyError,
    TokenSettings, TokenVerifier,
};

/// The connection token of `docs/protocols/centrifuge.md`: user 42 until 2000000000, secret `secret`.
const EXAMPLE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
    eyJzdWIiOiI0MiIsImV4cCI6MjAwMDAwMDAwMH0.BPTmkRmF44-u1MZ9kI3ah3SURAUHe8hvjM7veQHcdBY";
const NOW: Timestamp = Timestamp(1_900_000_000_000);
const LATER: i64 = 1_900_000_100;

struct Pair {
    /// As PEM.
    public: String,
    public_bytes: Vec<u8>,
    private: EncodingKey,
}

impl Pair {
    fn of(kind: &'static rcgen::SignatureAlgorithm) -> Pair {
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let read = match kind {
            kind if *kind == rcgen::PKCS_RSA_SHA256 => EncodingKey::from_rsa_pem,
            kind if *kind == rcgen::PKCS_ED25519 => EncodingKey::from_ed_pem,
            _ => EncodingKey::from_ec_pem,
        };
        Pair {
            public: pair.public_key_pem(),
            public_bytes: pair.public_key_raw().to_vec(),
            private: read(pem.as_bytes()).unwrap(),
        }
    }
}

static RSA: LazyLock<Pair> = LazyLock::new(|| Pair::of(&rcgen::PKCS_RSA_SHA256));
static P256: LazyLock<Pair> = LazyLock::new(|| Pair::of(&rcgen::PKCS_ECDSA_P256_SHA256));
static P384: LazyLock<Pair> = LazyLock::new(|| Pair::of(&rcgen::PKCS_ECDSA_P384_SHA384));
static ED25519: LazyLock<Pair> = LazyLock::new(|| Pair::of(&rcgen::PKCS_ED25519));

fn secret(text: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(text.to_owned()))
}

fn hmac() -> TokenSettings {
    TokenSettings { hmac_secret: secret("secret"), ..TokenSettings::default() }
}

fn verifier(settings: &TokenSettings) -> TokenVerifier {
    TokenVerifier::new(settings).unwrap()
}

fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(b"secret");
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

#[track_caller]
fn connect(claims: Value) -> Result<ConnectClaims, TokenError> {
    verifier(&hmac()).connect(&signed(&claims), NOW)
}

fn invalid<T>(reason: InvalidToken) -> Result<T, TokenError> {
    Err(TokenError::Invalid(reason))
}

#[test]
fn the_example_of_the_documentation_is_good_until_it_expires() {
    let verifier = verifier(&hmac());
    let claims = verifier.connect(EXAMPLE, NOW).unwrap();
    assert_eq!(claims.user, "42");
    assert_eq!(claims.expires_at, Some(Timestamp(2_000_000_000_000)));
    assert!(verifier.connect(EXAMPLE, Timestamp(1_999_999_999_999)).is_ok());
    assert_eq!(verifier.connect(EXAMPLE, Timestamp(2_000_000_000_000)), Err(TokenError::Expired));
}

#[test]
fn every_algorithm_is_accepted_with_its_key_and_no_other() {
    let secret = Pair {
        public: String::new(),
        public_bytes: Vec::new(),
        private: EncodingKey::from_secret(b"secret"),
    };
    let with = |set: fn(&mut TokenSettings, String), pair: &Pair| {
        let mut settings = TokenSettings::default();
        set(&mut settings, pair.public.clone());
        settings
    };
    let rsa = with(|settings, pem| settings.rsa_public_key = Some(pem), &RSA);
    let p256 = with(|settings, pem| settings.ecdsa_public_key = Some(pem), &P256);
    let p384 = with(|settings, pem| settings.ecdsa_public_key = Some(pem), &P384);
    let ed25519 = with(|settings, pem| settings.ed25519_public_key = Some(pem), &ED25519);
    let all = [
        (Algorithm::HS256, &secret, hmac()),
        (Algorithm::HS384, &secret, hmac()),
        (Algorithm::HS512, &secret, hmac()),
        (Algorithm::RS256, &*RSA, rsa.clone()),
        (Algorithm::RS384, &*RSA, rsa.clone()),
        (Algorithm::RS512, &*RSA, rsa),
        (Algorithm::ES256, &*P256, p256),
        (Algorithm::ES384, &*P384, p384),
        (Algorithm::EdDSA, &*ED25519, ed25519),
    ];
    for (algorithm, pair, settings) in &all {
        let header = Header::new(*algorithm);
        let token = encode(&header, &json!({"sub": "42"}), &pair.private).unwrap();
        let claims = verifier(settings).connect(&token, NOW).unwrap();
        assert_eq!(claims.user, "42", "{algorithm:?}");
        for (other, _pair, others) in &all {
            if other.family() != algorithm.family() {
                let refused = verifier(others).connect(&token, NOW);
                assert_eq!(refused, invalid(InvalidToken::UnknownAlgorithm));
            }
        }
        // One bit of the signature.
        let mut bytes = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
        bytes[5] ^= 1;
        let message = token.rsplit_once('.').unwrap().0;
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let refused = verifier(settings).connect(&forged, NOW);
        assert_eq!(refused, invalid(InvalidToken::WrongSignature), "{algorithm:?}");
    }
}

#[test]
fn a_token_without_signature_is_invalid_whatever_is_configured() {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    for name in ["none", "None", "HS257", "", "PS256", "ES512"] {
        let header = part(&format!(r#"{{"alg":"{name}"}}"#));
        let token = format!("{header}.{}.", part(r#"{"sub":"42"}"#));
        for settings in [hmac(), TokenSettings::default()] {
            let refused = verifier(&settings).connect(&token, NOW);
            assert_eq!(refused, invalid(InvalidToken::UnknownAlgorithm), "{name}");
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let settings =
        TokenSettings { rsa_public_key: Some(RSA.public.clone()), ..TokenSettings::default() };
    let key = EncodingKey::from_secret(RSA.public.as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &json!({"sub": "42"}), &key).unwrap();
    let refused = verifier(&settings).connect(&token, NOW);
    assert_eq!(refused, invalid(InvalidToken::UnknownAlgorithm));
}

#[test]
fn without_any_key_every_token_is_invalid() {
    let verifier = verifier(&TokenSettings::default());
    assert!(!verifier.has_keys());
    assert_eq!(verifier.connect(EXAMPLE, NOW), invalid(InvalidToken::UnknownAlgorithm));
}

#[test]
fn the_previous_secret_is_good_until_its_time() {
    let until = Timestamp(NOW.0 + 1000);
    let settings = TokenSettings {
        hmac_secret: secret("new"),
        hmac_previous_secret: secret("secret"),
        hmac_previous_secret_until: Some(until),
        ..TokenSettings::default()
    };
    let verifier = verifier(&settings);
    assert!(verifier.connect(EXAMPLE, NOW).is_ok());
    assert!(verifier.connect(EXAMPLE, Timestamp(until.0 - 1)).is_ok());
    assert_eq!(verifier.connect(EXAMPLE, until), invalid(InvalidToken::WrongSignature));
}

#[test]
fn broken_tokens_are_malformed() {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let header = part(r#"{"alg":"HS256"}"#);
    let strange = [
        String::new(),
        "a".to_owned(),
        "a.b".to_owned(),
        "..".to_owned(),
        format!("{header}.a.b.c"),
        format!("{header}==.e30.e30"),
        format!("{}.e30.e30", part("{")),
        format!("{}.e30.e30", part(r#"{"alg":7}"#)),
        format!("{}.e30.e30", part(r#"{"typ":"JWT"}"#)),
        format!("{}.e30.e30", part(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#)),
    ];
    for token in strange {
        let refused = verifier(&hmac()).connect(&token, NOW);
        assert_eq!(refused, invalid(InvalidToken::Malformed), "{token}");
    }
    let refused = verifier(&hmac()).connect(&format!("{header}.e30.!"), NOW);
    assert_eq!(refused, invalid(InvalidToken::WrongSignature));
    let long = signed(&json!({"sub": "x".repeat(TokenVerifier::TOKEN_BYTES_MAX)}));
    assert_eq!(verifier(&hmac()).connect(&long, NOW), invalid(InvalidToken::TooLong));
}

#[test]
fn claims_of_a_wrong_type_are_malformed() {
    for claims in [
        json!([]),
        json!({"sub": 42}),
        json!({"exp": "2000000000"}),
        json!({"channels": "a"}),
        json!({"subs": {"a": 1}}),
        json!({"b64info": "!"}),
        json!({"meta": [1]}),
        json!({"meta": "x"}),
        json!({"subs": {"a": {"override": {"presence": true}}}}),
    ] {
        assert_eq!(connect(claims.clone()), invalid(InvalidToken::Malformed), "{claims}");
    }
}

#[test]
fn a_token_that_is_not_good_yet_counts_as_expired() {
    assert_eq!(connect(json!({"nbf": LATER})), Err(TokenError::Expired));
    assert!(connect(json!({"nbf": NOW.0 / 1000})).is_ok());
    assert!(connect(json!({"exp": LATER as f64 + 0.5})).is_ok());
    assert_eq!(connect(json!({"exp": 0})), Err(TokenError::Expired));
    assert_eq!(connect(json!({"exp": i64::MIN})), Err(TokenError::Expired));
    assert!(connect(json!({"exp": i64::MAX})).is_ok());
}

#[test]
fn a_forged_token_is_invalid_and_not_expired() {
    let key = EncodingKey::from_secret(b"other");
    let claims = json!({"sub": "42", "exp": 1});
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let refused = verifier(&hmac()).connect(&token, NOW);
    assert_eq!(refused, invalid(InvalidToken::WrongSignature));
}

#[test]
fn the_connections_end_may_differ_from_the_tokens() {
    let ends = |claims| connect(claims).unwrap().expires_at.map(|Timestamp(ms)| ms / 1000);
    assert_eq!(ends(json!({})), None);
    assert_eq!(ends(json!({"exp": LATER})), Some(LATER));
    assert_eq!(ends(json!({"exp": LATER, "expire_at": 0})), None);
    assert_eq!(ends(json!({"exp": LATER, "expire_at": LATER + 5})), Some(LATER + 5));
    assert_eq!(ends(json!({"expire_at": 7})), Some(7));
}

#[test]
fn info_is_kept_as_written_and_base64_wins() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let payload = URL_SAFE_NO_PAD.encode(r#"{"info":{"b": 1.00, "a":2},"meta":{"k":1.0}}"#);
    let message = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(b"secret");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    let claims = verifier(&hmac()).connect(&format!("{message}.{signature}"), NOW).unwrap();
    assert_eq!(claims.info, r#"{"b": 1.00, "a":2}"#);
    assert_eq!(claims.meta, r#"{"k":1.0}"#);
    let claims = connect(json!({"info": 1, "b64info": "/wA="})).unwrap();
    assert_eq!(claims.info, &b"\xff\0"[..]);
    let claims = connect(json!({"info": null, "meta": null, "b64info": ""})).unwrap();
    assert!(claims.info.is_empty() && claims.meta.is_empty());
}

#[test]
fn server_side_channels_come_as_names_or_with_options_which_win() {
    let claims = connect(json!({"channels": ["a", "b", "a"]})).unwrap();
    assert_eq!(claims.subs.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(claims.subs["a"], ServerSubscription::default());
    let claims = connect(json!({
        "channels": ["x"],
        "subs": {"a": {}, "b": {
            "info": {"n": 1}, "b64data": "aGk=",
            "override": {"presence": {"value": true}, "force_recovery": {"value": false}, "later": 1},
        }},
    }));
    let claims = claims.unwrap();
    assert_eq!(claims.subs.keys().collect::<Vec<_>>(), ["a", "b"]);
    let sub = &claims.subs["b"];
    assert_eq!((&sub.info[..], &sub.data[..]), (&br#"{"n":1}"#[..], &b"hi"[..]));
    let expected =
        Overrides { presence: Some(true), force_recovery: Some(false), ..Overrides::default() };
    assert_eq!(sub.overrides, expected);
    assert_eq!(connect(json!({"channels": ["x"], "subs": {}})).unwrap().subs.len(), 1);
}

#[test]
fn a_token_may_grant_rights_in_channels_and_what_is_not_understood_grants_nothing() {
    let claims = connect(json!({"caps": [
        {"channels": ["room:bot/1", "room:bot/2"], "allow": ["sub", "pub", "fly"]},
        {"channels": ["bot:*"], "allow": ["sub", "hst", "prs"], "match": "wildcard"},
        {"channels": ["a.*"], "allow": ["sub"], "match": "regex"},
        {"allow": ["sub"]},
    ]}));
    let right = |channels: &str, subscribe, publish| ChannelRight {
        channels: channels.into(),
        subscribe,
        publish,
        ..ChannelRight::default()
    };
    let looking = ChannelRight {
        is_pattern: true,
        history: true,
        presence: true,
        ..right("bot:*", true, false)
    };
    let rights = vec![right("room:bot/1", true, true), right("room:bot/2", true, true), looking];
    assert_eq!(claims.unwrap().rights, rights);
    assert_eq!(connect(json!({})).unwrap().rights, []);
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many = connect(json!({"caps": [{"channels": many, "allow": ["sub"]}]}));
    assert_eq!(many.map(|claims| claims.rights.len()), invalid(InvalidToken::Malformed));
}

#[test]
fn a_subscription_token_says_channel_client_and_payloads() {
    let token = signed(&json!({
        "sub": "42", "channel": "$chat:1", "client": "c1", "exp": LATER, "expire_at": LATER + 1,
        "info": {"role": "dj"}, "data": [1], "override": {"join_leave": {"value": true}},
    }));
    let claims = verifier(&hmac()).subscribe(&token, NOW).unwrap();
    assert_eq!((&claims.user[..], &claims.channel[..]), ("42", "$chat:1"));
    assert_eq!(claims.client.as_deref(), Some("c1"));
    assert_eq!(claims.expires_at, Some(Timestamp((LATER + 1) * 1000)));
    assert_eq!((&claims.info[..], &claims.data[..]), (&br#"{"role":"dj"}"#[..], &b"[1]"[..]));
    assert_eq!(claims.overrides.join_leave, Some(true));
    let expired = signed(&json!({"channel": "a", "exp": 1}));
    assert_eq!(verifier(&hmac()).subscribe(&expired, NOW), Err(TokenError::Expired));
}

#[test]
fn tokens_of_one_kind_do_not_do_for_the_other() {
    let verifier = verifier(&hmac());
    let subscription = signed(&json!({"sub": "42", "channel": "a"}));
    assert_eq!(verifier.connect(&subscription, NOW), invalid(InvalidToken::WrongKind));
    assert_eq!(verifier.subscribe(EXAMPLE, NOW), invalid(InvalidToken::WrongKind));
    let empty = signed(&json!({"sub": "42", "channel": ""}));
    assert_eq!(verifier.subscribe(&empty, NOW), invalid(InvalidToken::WrongKind));
}

#[test]
fn audience_and_issuer_are_checked_where_they_are_set() {
    let settings = TokenSettings {
        audience: Some("naru".to_owned()),
        issuer: Some("us".to_owned()),
        ..hmac()
    };
    let strict = verifier(&settings);
    let check = |claims: Value| strict.connect(&signed(&claims), NOW).map(|claims| claims.user);
    let user = || Ok("42".to_owned());
    assert_eq!(check(json!({"sub": "42", "aud": "naru", "iss": "us"})), user());
    assert_eq!(check(json!({"sub": "42", "aud": ["a", "naru"], "iss": "us"})), user());
    for aud in [json!("nar"), json!([]), json!(["a"]), json!(null)] {
        let refused = check(json!({"sub": "42", "aud": aud, "iss": "us", "exp": 1}));
        assert_eq!(refused, invalid(InvalidToken::WrongAudience));
    }
    let refused = check(json!({"aud": "naru", "iss": "them"}));
    assert_eq!(refused, invalid(InvalidToken::WrongIssuer));
    assert_eq!(check(json!({"aud": "naru"})), invalid(InvalidToken::WrongIssuer));
    assert!(connect(json!({"aud": "anybody", "iss": "anybody"})).is_ok());
}

#[test]
fn another_claim_may_name_the_user() {
    let settings = TokenSettings { user_claim: Some("uid".to_owned()), ..hmac() };
    let verifier = verifier(&settings);
    let user = |claims: Value| verifier.connect(&signed(&claims), NOW).map(|claims| claims.user);
    assert_eq!(user(json!({"sub": "1", "uid": "2"})), Ok("2".to_owned()));
    assert_eq!(user(json!({"sub": "1"})), Ok(String::new()));
    assert_eq!(user(json!({"uid": 2})), invalid(InvalidToken::Malformed));
}

/// The public half of `pair` as an entry of a key set.
fn jwk(pair: &Pair, algorithm: Algorithm, kid: Option<&str>) -> Value {
    let mut jwk = if algorithm == Algorithm::EdDSA {
        // The library makes these from another form of private key than rcgen writes.
        let x = URL_SAFE_NO_PAD.encode(&pair.public_bytes);
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA"})
    } else {
        let jwk = Jwk::from_encoding_key(&pair.private, algorithm).unwrap();
        serde_json::to_value(jwk).unwrap()
    };
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}

fn signed_by(pair: &Pair, algorithm: Algorithm, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &json!({"sub": "42"}), &pair.private).unwrap()
}

#[test]
fn keys_of_a_key_set_are_found_by_their_id() {
    let verifier = verifier(&TokenSettings::default());
    let set = json!({"keys": [
        jwk(&RSA, Algorithm::RS256, Some("r")),
        jwk(&P256, Algorithm::ES256, Some("p")),
        jwk(&P384, Algorithm::ES384, None),
        jwk(&ED25519, Algorithm::EdDSA, Some("e")),
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "from the future"},
        7,
    ]});
    verifier.set_jwks(set.to_string().as_bytes()).unwrap();
    assert!(verifier.has_keys());
    let check = |token: String| verifier.connect(&token, NOW).map(|claims| claims.user);
    for (pair, algorithm, kid) in [
        (&RSA, Algorithm::RS256, "r"),
        (&P256, Algorithm::ES256, "p"),
        (&ED25519, Algorithm::EdDSA, "e"),
    ] {
        assert_eq!(check(signed_by(pair, algorithm, Some(kid))), Ok("42".to_owned()), "{kid}");
        assert!(check(signed_by(pair, algorithm, None)).is_ok());
        let refused = check(signed_by(pair, algorithm, Some("x")));
        assert_eq!(refused, invalid(InvalidToken::UnknownAlgorithm));
    }
    assert!(check(signed_by(&P384, Algorithm::ES384, None)).is_ok());
    // The key is for RS256 only.
    let refused = check(signed_by(&RSA, Algorithm::RS512, Some("r")));
    assert_eq!(refused, invalid(InvalidToken::UnknownAlgorithm));
}

#[test]
fn a_new_key_set_replaces_the_old_and_a_broken_one_does_not() {
    let verifier = verifier(&TokenSettings::default());
    let set = |keys: Vec<Value>| json!({ "keys": keys }).to_string();
    let check = |pair, algorithm| verifier.connect(&signed_by(pair, algorithm, None), NOW).is_ok();
    verifier.set_jwks(set(vec![jwk(&P256, Algorithm::ES256, None)]).as_bytes()).unwrap();
    assert!(check(&P256, Algorithm::ES256) && !check(&ED25519, Algorithm::EdDSA));
    let secret = json!({"kty": "oct", "k": "c2VjcmV0"});
    let mut encryption = jwk(&ED25519, Algorithm::EdDSA, None);
    encryption["use"] = "enc".into();
    for (json, error) in [
        ("{".to_owned(), TokenKeyError::NotAKeySet),
        ("[]".to_owned(), TokenKeyError::NotAKeySet),
        (set(vec![]), TokenKeyError::NoUsableKey),
        (set(vec![secret, encryption]), TokenKeyError::NoUsableKey),
        (
            set(vec![jwk(&P256, Algorithm::ES256, None); TokenVerifier::KEYS_MAX + 1]),
            TokenKeyError::TooManyKeys,
        ),
    ] {
        assert_eq!(verifier.set_jwks(json.as_bytes()), Err(error));
    }
    assert!(check(&P256, Algorithm::ES256));
    verifier.set_jwks(set(vec![jwk(&ED25519, Algorithm::EdDSA, None)]).as_bytes()).unwrap();
    assert!(!check(&P256, Algorithm::ES256) && check(&ED25519, Algorithm::EdDSA));
}

#[test]
fn keys_that_would_let_everybody_in_or_nobody_are_refused() {
    let refused = |settings: TokenSettings| TokenVerifier::new(&settings).unwrap_err();
    let empty = TokenSettings { hmac_secret: secret(""), ..TokenSettings::default() };
    assert_eq!(refused(empty), TokenKeyError::EmptySecret);
    let alone = TokenSettings { hmac_previous_secret: secret("x"), ..TokenSettings::default() };
    assert_eq!(refused(alone), TokenKeyError::PreviousSecretAlone);
    let private = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    for (pem, kind) in [("nonsense", "RSA"), (&ED25519.public, "RSA"), (&private, "RSA")] {
        let settings =
            TokenSettings { rsa_public_key: Some(pem.to_owned()), ..TokenSettings::default() };
        let error = refused(settings);
        assert!(matches!(&error, TokenKeyError::UnusableKey { kind: of, .. } if *of == kind));
        assert!(!error.to_string().contains(&private[30..60]));
    }
}

#[test]
fn secrets_do_not_show_up_in_debug() {
    let settings = TokenSettings {
        hmac_secret: secret("s3cret"),
        hmac_previous_secret: secret("s3cret"),
        ..TokenSettings::default()
    };
    let shown = format!("{settings:?} {:?}", verifier(&settings));
    assert!(!shown.contains("s3cret"), "{shown}");
}
