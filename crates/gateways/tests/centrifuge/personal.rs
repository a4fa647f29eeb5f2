//! The channel that belongs to one user, and messages to one connection.

use naru_domain::CloseReason;
use naru_gateways::centrifuge::ClientOptions;
use serde_json::{Value, json};

use crate::world::World;

const OWN: &str = "personal:#bo";

#[tokio::test(start_paused = true)]
async fn every_connection_of_a_user_is_in_its_own_channel_without_asking() {
    let world = World::new();
    let (mut phone, connected) = world.user("bo").await;
    let own = &connected["subs"][OWN];
    assert_eq!((&own["recoverable"], &own["positioned"]), (&json!(true), &json!(true)), "{own}");
    let (mut tablet, _) = world.user("bo").await;
    let (mut other, connected) = world.user("al").await;
    assert!(connected["subs"].get(OWN).is_none() && connected["subs"]["personal:#al"].is_object());
    world.publish(OWN, json!("for bo")).await;
    world.publish("personal:#al", json!("for al")).await;
    assert_eq!(phone.publication(OWN).await, "for bo");
    assert_eq!(tablet.publication(OWN).await, "for bo");
    assert_eq!(other.publication("personal:#al").await, "for al");
}

#[tokio::test(start_paused = true)]
async fn what_came_while_a_user_was_away_comes_with_the_next_connect() {
    let world = World::new();
    let (client, connected) = world.user("bo").await;
    let own = connected["subs"][OWN].clone();
    drop(client);
    world.publish(OWN, json!(1)).await;
    world.publish(OWN, json!(2)).await;
    let seen = json!({ "recover": true, "epoch": own["epoch"], "offset": 0 });
    let back = json!({ "token": "token-of-bo", "subs": { OWN: seen } });
    let (mut client, connected) = world.connect(back).await;
    let own = &connected["subs"][OWN];
    assert_eq!(own["recovered"], true, "{own}");
    let data: Vec<&Value> =
        own["publications"].as_array().unwrap().iter().map(|each| &each["data"]).collect();
    assert_eq!(data, [1, 2]);
    world.publish(OWN, json!(3)).await;
    assert_eq!(client.publication(OWN).await, 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_enters_a_personal_channel_and_no_client_publishes_there() {
    let world = World::new();
    let (mut al, _) = world.user("al").await;
    let wish = json!({ "channel": OWN });
    assert_eq!(al.refused("subscribe", wish.clone()).await, 103);
    let granted = json!({ "channel": OWN, "token": "token-of-al-in-personal:#bo" });
    assert_eq!(al.refused("subscribe", granted).await, 103, "not even with a token");
    let post = json!({ "channel": OWN, "data": 1 });
    for command in ["publish", "history"] {
        assert_eq!(al.refused(command, post.clone()).await, 103);
    }
    let (mut nobody, connected) = world.connect(json!({})).await;
    assert!(connected.get("subs").is_none());
    assert_eq!(nobody.refused("subscribe", json!({ "channel": "personal:#" })).await, 103);
    let (mut bo, _) = world.user("bo").await;
    assert_eq!(bo.refused("publish", post).await, 103, "not even its own user");
    assert_eq!(bo.refused("subscribe", wish).await, 105);
    let history = bo.ask("history", json!({ "channel": OWN, "limit": 10 })).await;
    assert_eq!(history["history"]["publications"], json!([]));
    let mut eve = world.open().await;
    let stolen = json!({ "token": "token-of-eve-in-personal:#bo" });
    assert_eq!(eve.refused("connect", stolen).await, 103);
    assert_eq!(eve.next().await.unwrap_err().0, 3501);
}

#[tokio::test(start_paused = true)]
async fn ids_that_fit_into_no_name_only_lack_the_channel() {
    let world = World::new();
    for (user, has_channel) in
        [("나루", true), ("a:b", true), ("a,b", false), ("a#b", false), (&"x".repeat(250), false)]
    {
        let (_client, connected) = world.user(user).await;
        let own = format!("personal:#{user}");
        assert_eq!(connected["subs"].get(&own).is_some(), has_channel, "{user}");
    }
    // A token that names it as well changes nothing.
    let (_client, connected) =
        world.connect(json!({ "token": "token-of-bo-in-personal:#bo" })).await;
    assert_eq!(connected["subs"].as_object().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn personal_channels_can_be_turned_off() {
    let world = World::with(ClientOptions { user_channels: false, ..ClientOptions::default() });
    let (_client, connected) = world.user("bo").await;
    assert!(connected.get("subs").is_none(), "{connected}");
    assert!(world.hub.channels(|_| true).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_server_says_something_to_one_connection_alone() {
    let world = World::new();
    let (mut phone, _) = world.user("bo").await;
    let (mut tablet, _) = world.user("bo").await;
    let clients = world.hub.clients_of("bo");
    let [first, second] = clients.as_slice() else { panic!("two connections") };
    first.outlet().message(&r#"{"hit":9}"#.into());
    second.close(&CloseReason::Kicked.into());
    assert_eq!(
        phone.next().await.unwrap(),
        json!({ "push": { "message": { "data": { "hit": 9 } } } })
    );
    assert_eq!(tablet.next().await.unwrap_err().0, 3503);
}
