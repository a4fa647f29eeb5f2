//! Signed tokens as the gateways ask for them.

use naru_domain::Timestamp;
use naru_domain::ports::{self, Credentials, SubscribeGrant, SubscribeOverride};

use super::{Overrides, TokenError, TokenVerifier};

impl ports::TokenVerifier for TokenVerifier {
    fn connect(&self, token: &str, now: Timestamp) -> Result<Credentials, ports::TokenError> {
        let claims = TokenVerifier::connect(self, token, now)?;
        let channels = claims.subs.into_iter().map(|(name, subscription)| {
            let grant = SubscribeGrant {
                info: subscription.info,
                data: subscription.data,
                expires_at: None,
                overrides: overrides(subscription.overrides),
            };
            (name, grant)
        });
        Ok(Credentials {
            user: claims.user,
            expires_at: claims.expires_at,
            info: claims.info,
            meta: claims.meta,
            channels: channels.collect(),
            rights: claims.rights,
            ..Credentials::default()
        })
    }

    fn subscribe(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<ports::SubscribeClaims, ports::TokenError> {
        let claims = TokenVerifier::subscribe(self, token, now)?;
        Ok(ports::SubscribeClaims {
            user: claims.user,
            channel: claims.channel,
            client: claims.client,
            grant: SubscribeGrant {
                info: claims.info,
                data: claims.data,
                expires_at: claims.expires_at,
                overrides: overrides(claims.overrides),
            },
        })
    }
}

fn overrides(overrides: Overrides) -> SubscribeOverride {
    let Overrides {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    } = overrides;
    SubscribeOverride {
        presence,
        join_leave,
        force_push_join_leave,
        force_recovery,
        force_positioning,
    }
}

impl From<TokenError> for ports::TokenError {
    fn from(error: TokenError) -> ports::TokenError {
        match error {
            TokenError::Expired => ports::TokenError::Expired,
            TokenError::Invalid(_) => ports::TokenError::Invalid,
        }
    }
}
