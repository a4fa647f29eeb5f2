//! Owners of namespaces: who gets what is published there, and who is kept out.

use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::ports::{BusError, ChannelOwner, OwnerError, Post};
use naru_domain::{ChannelName, Offset, PartyInfo};
use naru_testkit::bus_contract::channel;
use parking_lot::Mutex;

use super::PublishError;
use crate::hub::Hub;
use crate::subscribe::SubscribeError;
use crate::test_node::{Node, NodeSpec, loose};

/// Repeats what it takes in capitals, keeps out whoever is called `stranger`, and refuses `no`.
struct Echo {
    hub: Hub,
    admitted: Mutex<Vec<String>>,
}

#[async_trait]
impl ChannelOwner for Echo {
    async fn admit(&self, channel: &ChannelName, party: &PartyInfo) -> Result<(), OwnerError> {
        if &*party.user == "stranger" {
            return Err(OwnerError::NotFound { what: "room" });
        }
        self.admitted.lock().push(format!("{} {channel}", party.user));
        Ok(())
    }

    async fn take(&self, channel: &ChannelName, post: Post) -> Result<(), OwnerError> {
        if &*post.data == b"no" {
            return Err(OwnerError::Invalid { reason: "not that".to_owned() });
        }
        let loud = String::from_utf8_lossy(&post.data).to_uppercase();
        let told = self.hub.publish_as_owner(channel, Post::new(loud)).await;
        told.map(drop).map_err(|error| OwnerError::Unavailable { reason: error.to_string() })
    }
}

fn own(node: &Node) -> Arc<Echo> {
    let owner = Arc::new(Echo { hub: node.hub.clone(), admitted: Mutex::default() });
    node.hub.set_owner("kept", Arc::clone(&owner) as _);
    owner
}

#[tokio::test]
async fn what_is_published_in_an_owned_namespace_goes_to_its_owner_alone() {
    let node = Node::start(NodeSpec::default());
    let watching = node.connect("ann");
    watching.enter("kept:a").await;
    watching.subscribe(loose("free:a")).await.unwrap();
    own(&node);
    assert!(node.hub.is_owned(&channel("kept:a")) && node.hub.is_owned(&channel("$kept:a")));
    assert!(!node.hub.is_owned(&channel("free:a")) && !node.hub.is_owned(&channel("kept")));

    let position = node.publish("kept:a", "hello").await;
    assert_eq!(position.offset, Offset(0), "what an owner took has no position");
    assert_eq!(watching.read(1).await, ["HELLO"]);
    node.publish("free:a", "hello").await;
    assert_eq!(watching.read(1).await, ["hello"]);
    node.stop().await;
}

#[tokio::test]
async fn the_refusal_of_an_owner_is_told_to_who_published() {
    let node = Node::start(NodeSpec::default());
    own(&node);
    let refused = node.hub.publish(&channel("kept:a"), Post::new("no")).await.unwrap_err();
    let invalid = OwnerError::Invalid { reason: "not that".to_owned() };
    assert_eq!(refused, PublishError::Owner(invalid));
    let too_large = vec![b'x'; node.hub.inner.bus.data_bytes_max() + 1];
    let refused = node.hub.publish(&channel("free:a"), Post::new(too_large)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Bus(BusError::TooLarge { .. })));
    node.stop().await;
}

#[tokio::test]
async fn whom_an_owner_keeps_out_leaves_nothing_behind() {
    let node = Node::start(NodeSpec::default());
    let owner = own(&node);
    let stranger = node.connect("stranger");
    let refused = stranger.subscribe(loose("kept:a")).await.unwrap_err();
    assert_eq!(refused, SubscribeError::Owner(OwnerError::NotFound { what: "room" }));
    assert_eq!(stranger.connected.client().subscription_count(), 0);
    assert!(!node.hub.has_listeners(&channel("kept:a")));

    let ann = node.connect("ann");
    ann.enter("kept:a").await;
    assert_eq!(*owner.admitted.lock(), ["ann kept:a"]);
    assert!(node.hub.has_listeners(&channel("kept:a")));
    assert!(!node.hub.has_listeners(&channel("kept:b")));
    assert!(ann.unsubscribe("kept:a"));
    node.until(|hub| !hub.has_listeners(&channel("kept:a"))).await;
    node.stop().await;
}
