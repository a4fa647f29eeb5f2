//! What travels with a publication, as one column. Protobuf, so that fields can be added without touching
//! what is kept already.

use bytes::Bytes;
use naru_domain::{PartyInfo, PublicationMeta, Version};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(message, optional, tag = "1")]
    publisher: Option<Party>,
    #[prost(message, repeated, tag = "2")]
    tags: Vec<Tag>,
    #[prost(bool, tag = "3")]
    is_delta: bool,
    #[prost(message, optional, tag = "4")]
    version: Option<Counted>,
}

#[derive(Clone, PartialEq, Message)]
struct Counted {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    epoch: String,
}

#[derive(Clone, PartialEq, Message)]
struct Party {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(bytes = "bytes", tag = "3")]
    conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    chan_info: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

pub(crate) fn encode(meta: &PublicationMeta) -> Vec<u8> {
    let tag = |(name, value): &(Box<str>, Box<str>)| Tag {
        name: name.to_string(),
        value: value.to_string(),
    };
    let publisher = meta.publisher.as_ref().map(|party| Party {
        user: party.user.to_string(),
        client: party.client.to_string(),
        conn_info: party.conn_info.clone(),
        chan_info: party.chan_info.clone(),
    });
    let tags = meta.tags.iter().map(tag).collect();
    let version = meta
        .version
        .as_ref()
        .map(|version| Counted { number: version.number, epoch: version.epoch.to_string() });
    Meta { publisher, tags, is_delta: meta.is_delta, version }.encode_to_vec()
}

/// `None` for what [`encode`] never wrote: the publication itself is worth more than its tags.
pub(crate) fn decode(raw: &[u8]) -> Option<PublicationMeta> {
    let Meta { publisher, tags, is_delta, version } = Meta::decode(raw).ok()?;
    let publisher = publisher.map(|party| PartyInfo {
        user: party.user.into(),
        client: party.client.into(),
        conn_info: party.conn_info,
        chan_info: party.chan_info,
    });
    let tags = tags.into_iter().map(|tag| (tag.name.into(), tag.value.into())).collect();
    let version = version.map(|Counted { number, epoch }| Version { number, epoch: epoch.into() });
    Some(PublicationMeta { publisher, tags, is_delta, version })
}
