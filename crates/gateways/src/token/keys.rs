//! Which key a token may be signed with, and whether it is. Each key is bound to its algorithms, so that
//! a public key can never serve as a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use naru_domain::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{InvalidToken, TokenKeyError, TokenSettings, TokenVerifier};

/// A key and what it may check. The key forgets its bytes when it is dropped, and has no `Debug` of them.
struct Key {
    key: DecodingKey,
    algorithms: &'static [Algorithm],
    /// The first moment at which it is not believed any more.
    until: Option<Timestamp>,
}

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The keys of the configuration.
pub(super) struct FixedKeys(Vec<Key>);

impl FixedKeys {
    pub(super) fn new(settings: &TokenSettings) -> Result<FixedKeys, TokenKeyError> {
        let mut keys = Vec::new();
        let secrets = [
            (&settings.hmac_secret, None),
            (&settings.hmac_previous_secret, settings.hmac_previous_secret_until),
        ];
        for (secret, until) in secrets {
            let Some(secret) = secret else { continue };
            if secret.is_empty() {
                return Err(TokenKeyError::EmptySecret);
            }
            let key = DecodingKey::from_secret(secret.as_bytes());
            keys.push(Key { key, algorithms: HMAC, until });
        }
        if settings.hmac_secret.is_none() && settings.hmac_previous_secret.is_some() {
            return Err(TokenKeyError::PreviousSecretAlone);
        }
        let public = [
            ("RSA", &settings.rsa_public_key, AlgorithmFamily::Rsa),
            ("ECDSA", &settings.ecdsa_public_key, AlgorithmFamily::Ec),
            ("Ed25519", &settings.ed25519_public_key, AlgorithmFamily::Ed),
        ];
        for (kind, pem, family) in public {
            let Some(pem) = pem else { continue };
            let unusable = |reason: String| TokenKeyError::UnusableKey { kind, reason };
            // The library reads private keys as well; whoever puts one here made a mistake that hurts.
            if pem.contains("PRIVATE KEY") {
                return Err(unusable("it is a private key".to_owned()));
            }
            let key = from_pem(family, pem).map_err(|error| unusable(error.to_string()))?;
            let algorithms = algorithms(&key).ok_or_else(|| unusable("its curve".to_owned()))?;
            keys.push(Key { key, algorithms, until: None });
        }
        Ok(FixedKeys(keys))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn from_pem(family: AlgorithmFamily, pem: &str) -> jsonwebtoken::errors::Result<DecodingKey> {
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem.as_bytes()),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem.as_bytes()),
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem.as_bytes())),
    }
}

/// What a public key may check; `None` for curves that we have no algorithm for.
fn algorithms(key: &DecodingKey) -> Option<&'static [Algorithm]> {
    match key.family() {
        AlgorithmFamily::Hmac => Some(HMAC),
        AlgorithmFamily::Rsa => Some(RSA),
        AlgorithmFamily::Ed => Some(ED25519),
        // A point of a curve: a mark and two coordinates.
        AlgorithmFamily::Ec => match key.try_get_as_bytes().ok()?.len() {
            65 => Some(P256),
            97 => Some(P384),
            _ => None,
        },
    }
}

/// The keys of a JSON Web Key Set, with their ids.
#[derive(Default)]
pub(super) struct KeySet(Vec<(Option<String>, Key)>);

#[derive(Deserialize)]
struct JwksFile {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    pub(super) fn parse(json: &[u8]) -> Result<KeySet, TokenKeyError> {
        let file: JwksFile =
            serde_json::from_slice(json).map_err(|_error| TokenKeyError::NotAKeySet)?;
        // Sets hold keys for other purposes and of kinds yet to come; those are not for us.
        let jwks = file.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<_> = jwks.filter_map(|jwk| usable(&jwk)).collect();
        match keys.len() {
            0 => Err(TokenKeyError::NoUsableKey),
            count if count > TokenVerifier::KEYS_MAX => Err(TokenKeyError::TooManyKeys),
            _ => Ok(KeySet(keys)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn usable(jwk: &Jwk) -> Option<(Option<String>, Key)> {
    let is_for_signatures =
        matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let is_public = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_) => true,
        AlgorithmParameters::OctetKeyPair(pair) => pair.curve == EllipticCurve::Ed25519,
        // Secrets among them: what stands in a file that is meant to be public is none.
        _ => false,
    };
    if !is_for_signatures || !is_public {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let mut algorithms = algorithms(&key)?;
    if let Some(only) = jwk.common.key_algorithm {
        let only = Algorithm::try_from(only).ok()?;
        let at = algorithms.iter().position(|algorithm| *algorithm == only)?;
        algorithms = &algorithms[at..=at];
    }
    Some((jwk.common.key_id.clone(), Key { key, algorithms, until: None }))
}

/// The part of a token's header that decides. `none` is no algorithm.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that a reader must understand. We understand none.
    crit: Option<IgnoredAny>,
}

/// The claims of a token, as JSON, if one of the keys signed them.
pub(super) fn verified_payload(
    token: &str,
    fixed: &FixedKeys,
    set: &KeySet,
    now: Timestamp,
) -> Result<Vec<u8>, InvalidToken> {
    let (message, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(InvalidToken::Malformed)?;
    let header: Header =
        serde_json::from_slice(&part(header)?).map_err(|_error| InvalidToken::Malformed)?;
    if header.crit.is_some() {
        return Err(InvalidToken::Malformed);
    }
    let payload = part(payload)?;
    let algorithm: Algorithm =
        header.alg.parse().map_err(|_error| InvalidToken::UnknownAlgorithm)?;

    // A token that names its key is checked with that key of the set only; one that names none, with all.
    let of_set = set.0.iter().filter(|(id, _key)| header.kid.is_none() || *id == header.kid);
    let candidates = fixed.0.iter().chain(of_set.map(|(_id, key)| key));
    let is_current = |key: &Key| key.until.is_none_or(|until| now < until);
    let mut error = InvalidToken::UnknownAlgorithm;
    for key in candidates.filter(|key| is_current(key) && key.algorithms.contains(&algorithm)) {
        let verdict =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm);
        if matches!(verdict, Ok(true)) {
            return Ok(payload);
        }
        error = InvalidToken::WrongSignature;
    }
    Err(error)
}

fn part(text: &str) -> Result<Vec<u8>, InvalidToken> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_error| InvalidToken::Malformed)
}
