//! What a token says: its claims, read once the signature is known to be good.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use naru_domain::Timestamp;
use naru_domain::ports::ChannelRight;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{InvalidToken, TokenError, TokenSettings};

/// Channels and patterns that a token's `caps` may name: each is looked at for every command (guessed).
const RIGHTS_MAX: usize = 100;

/// Who a connection belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectClaims {
    /// The user; `""` for anonymous ones.
    pub user: String,
    /// When the connection's credentials end; `None` for never. It may have passed already.
    pub expires_at: Option<Timestamp>,
    /// What others are shown of the connection: JSON or bytes, empty for none.
    pub info: Bytes,
    /// Channels that the server subscribes the connection to, by name.
    pub subs: BTreeMap<String, ServerSubscription>,
    /// A JSON object that is kept with the connection and shown to no client; empty for none.
    pub meta: Bytes,
    /// What the connection may do in channels besides what namespaces let everybody do.
    pub rights: Vec<ChannelRight>,
}

/// A channel that the server subscribes a connection to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerSubscription {
    /// What others are shown of the subscription; empty for none.
    pub info: Bytes,
    /// A payload for the client; empty for none.
    pub data: Bytes,
    /// Options that differ from those of the namespace.
    pub overrides: Overrides,
}

/// Options of a namespace that a token changes for one subscription. `None` leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the subscription shows up in presence.
    pub presence: Option<bool>,
    /// Whether its coming and going is told.
    pub join_leave: Option<bool>,
    /// Whether it is told who comes and goes.
    pub force_push_join_leave: Option<bool>,
    /// Whether it recovers.
    pub force_recovery: Option<bool>,
    /// Whether its position is tracked.
    pub force_positioning: Option<bool>,
}

/// What a subscription token allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeClaims {
    /// The user, who must be the connection's; `""` for anonymous ones.
    pub user: String,
    /// The channel, which must be the one that is asked for.
    pub channel: String,
    /// The connection's id, if the token is for one connection only.
    pub client: Option<String>,
    /// When the subscription ends; `None` for never. It may have passed already.
    pub expires_at: Option<Timestamp>,
    /// What others are shown of the subscription; empty for none.
    pub info: Bytes,
    /// A payload for the client; empty for none.
    pub data: Bytes,
    /// Options that differ from those of the namespace.
    pub overrides: Overrides,
}

/// What tokens must say besides being signed.
pub(super) struct Expectations {
    user_claim: Option<String>,
    audience: Option<String>,
    issuer: Option<String>,
}

impl Expectations {
    pub(super) fn new(settings: &TokenSettings) -> Expectations {
        Expectations {
            user_claim: settings.user_claim.clone(),
            audience: settings.audience.clone(),
            issuer: settings.issuer.clone(),
        }
    }
}

/// The claims of either kind of token.
pub(super) struct Claims {
    user: String,
    expires_at: Option<Timestamp>,
    info: Bytes,
    data: Bytes,
    raw: RawClaims,
}

#[derive(Deserialize)]
struct RawClaims {
    sub: Option<String>,
    exp: Option<Seconds>,
    nbf: Option<Seconds>,
    expire_at: Option<Seconds>,
    aud: Option<Audience>,
    iss: Option<String>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, RawSubscription>>,
    meta: Option<Box<RawValue>>,
    caps: Option<Vec<RawCapability>>,
    channel: Option<String>,
    client: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<RawOverrides>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, expected: &str) -> bool {
        match self {
            Audience::One(audience) => audience == expected,
            Audience::Several(audiences) => audiences.iter().any(|audience| audience == expected),
        }
    }
}

/// Seconds since the epoch. Fractions are allowed by the standard, and cut off.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(i64),
    Fraction(f64),
}

impl Seconds {
    fn timestamp(self) -> Timestamp {
        let seconds = match self {
            Seconds::Whole(seconds) => seconds,
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and is meant to cut")]
            Seconds::Fraction(seconds) => seconds as i64,
        };
        Timestamp(seconds.saturating_mul(1000))
    }
}

#[derive(Deserialize)]
struct RawSubscription {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<RawOverrides>,
}

/// Rights in some channels, under the names that users of Centrifugo's capabilities know.
#[derive(Deserialize)]
struct RawCapability {
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default, rename = "match")]
    matching: String,
}

impl RawCapability {
    /// What is not understood grants nothing.
    fn rights(self) -> impl Iterator<Item = ChannelRight> {
        let is_pattern = self.matching == "wildcard";
        let is_known = is_pattern || self.matching.is_empty();
        let RawCapability { channels, allow, .. } = self;
        let channels = channels.into_iter().filter(move |_| is_known);
        channels.map(move |name| {
            let allows = |what: &str| allow.iter().any(|each| each == what);
            ChannelRight {
                channels: name.into_boxed_str(),
                is_pattern,
                subscribe: allows("sub"),
                publish: allows("pub"),
                history: allows("hst"),
                presence: allows("prs"),
            }
        })
    }
}

#[derive(Default, Deserialize)]
struct RawOverrides {
    presence: Option<RawOverride>,
    join_leave: Option<RawOverride>,
    force_push_join_leave: Option<RawOverride>,
    force_recovery: Option<RawOverride>,
    force_positioning: Option<RawOverride>,
}

#[derive(Clone, Copy, Deserialize)]
struct RawOverride {
    #[serde(default)]
    value: bool,
}

impl RawOverrides {
    fn read(self) -> Overrides {
        let value = |of: Option<RawOverride>| of.map(|option| option.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_push_join_leave: value(self.force_push_join_leave),
            force_recovery: value(self.force_recovery),
            force_positioning: value(self.force_positioning),
        }
    }
}

impl Claims {
    /// Reads the claims and holds them against expectations and time, in that order: who is not meant
    /// at all shall not be asked to refresh.
    pub(super) fn parse(
        payload: &[u8],
        expectations: &Expectations,
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        let mut raw: RawClaims = read(payload)?;
        if let Some(audience) = &expectations.audience
            && !raw.aud.as_ref().is_some_and(|aud| aud.names(audience))
        {
            return Err(InvalidToken::WrongAudience.into());
        }
        if let Some(issuer) = &expectations.issuer
            && raw.iss.as_ref() != Some(issuer)
        {
            return Err(InvalidToken::WrongIssuer.into());
        }
        let user = match &expectations.user_claim {
            None => raw.sub.take(),
            Some(claim) => named_user(payload, claim)?,
        };
        let token_ends = raw.exp.map(Seconds::timestamp);
        let token_begins = raw.nbf.map(Seconds::timestamp);
        if token_ends.is_some_and(|end| end <= now) || token_begins.is_some_and(|from| from > now) {
            return Err(TokenError::Expired);
        }
        let expires_at = match raw.expire_at.map(Seconds::timestamp) {
            Some(Timestamp(0)) => None,
            Some(own) => Some(own),
            None => token_ends,
        };
        Ok(Claims {
            user: user.unwrap_or_default(),
            expires_at,
            info: payload_of(raw.info.take(), raw.b64info.take())?,
            data: payload_of(raw.data.take(), raw.b64data.take())?,
            raw,
        })
    }

    pub(super) fn into_connect(self) -> Result<ConnectClaims, TokenError> {
        if self.raw.channel.is_some_and(|channel| !channel.is_empty()) {
            return Err(InvalidToken::WrongKind.into());
        }
        let subs = match self.raw.subs {
            Some(subs) if !subs.is_empty() => subs
                .into_iter()
                .map(|(channel, sub)| Ok((channel, sub.read()?)))
                .collect::<Result<_, InvalidToken>>()?,
            _ => {
                let channels = self.raw.channels.unwrap_or_default().into_iter();
                channels.map(|channel| (channel, ServerSubscription::default())).collect()
            }
        };
        let rights: Vec<ChannelRight> =
            self.raw.caps.into_iter().flatten().flat_map(RawCapability::rights).collect();
        if rights.len() > RIGHTS_MAX {
            return Err(InvalidToken::Malformed.into());
        }
        Ok(ConnectClaims {
            user: self.user,
            expires_at: self.expires_at,
            info: self.info,
            subs,
            meta: object(self.raw.meta)?,
            rights,
        })
    }

    pub(super) fn into_subscribe(self) -> Result<SubscribeClaims, TokenError> {
        let channel = self.raw.channel.filter(|channel| !channel.is_empty());
        Ok(SubscribeClaims {
            user: self.user,
            channel: channel.ok_or(InvalidToken::WrongKind)?,
            client: self.raw.client.filter(|client| !client.is_empty()),
            expires_at: self.expires_at,
            info: self.info,
            data: self.data,
            overrides: self.raw.overrides.unwrap_or_default().read(),
        })
    }
}

impl RawSubscription {
    fn read(self) -> Result<ServerSubscription, InvalidToken> {
        Ok(ServerSubscription {
            info: payload_of(self.info, self.b64info)?,
            data: payload_of(self.data, self.b64data)?,
            overrides: self.overrides.unwrap_or_default().read(),
        })
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, InvalidToken> {
    serde_json::from_slice(json).map_err(|_error| InvalidToken::Malformed)
}

/// The user where another claim than `sub` names it.
fn named_user(payload: &[u8], claim: &str) -> Result<Option<String>, InvalidToken> {
    let claims: BTreeMap<String, Box<RawValue>> = read(payload)?;
    claims.get(claim).map_or(Ok(None), |user| read(user.get().as_bytes()))
}

/// JSON as it was written, or the bytes that stand in base64, which win.
fn payload_of(json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Bytes, InvalidToken> {
    if let Some(base64) = base64.filter(|base64| !base64.is_empty()) {
        let bytes = STANDARD.decode(base64).map_err(|_error| InvalidToken::Malformed)?;
        return Ok(bytes.into());
    }
    Ok(json.map_or_else(Bytes::new, |json| Box::<str>::from(json).into_boxed_bytes().into()))
}

fn object(json: Option<Box<RawValue>>) -> Result<Bytes, InvalidToken> {
    if let Some(json) = &json {
        read::<BTreeMap<String, IgnoredAny>>(json.get().as_bytes())?;
    }
    payload_of(json, None)
}
