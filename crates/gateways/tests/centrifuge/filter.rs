//! Subscriptions that want some publications only.

use serde_json::{Value, json};

use crate::world::World;

fn reds() -> Value {
    json!({ "key": "k", "cmp": "eq", "val": "red" })
}

#[tokio::test(start_paused = true)]
async fn only_what_passes_the_filter_comes_live_and_recovered() {
    let world = World::new();
    let (mut client, _) = world.user("bo").await;
    let wish = json!({ "channel": "tagged:a", "tf": reds() });
    let reply = client.ask("subscribe", wish).await;
    let epoch = reply["subscribe"]["epoch"].clone();
    for (number, tag) in (1..).zip(["red", "blue", "blue", "red"]) {
        world.publish_tagged("tagged:a", json!(number), tag).await;
    }
    world.publish("tagged:a", json!("no tag")).await;
    assert_eq!(client.publication("tagged:a").await, 1);
    let last = client.next().await.unwrap();
    assert_eq!(last["push"]["pub"]["offset"], 4, "{last}");
    drop(client);
    world.publish_tagged("tagged:a", json!(6), "blue").await;
    world.publish_tagged("tagged:a", json!(7), "red").await;
    // The client's own position is that of the last one it was sent.
    let (mut client, _) = world.user("bo").await;
    let wish = json!({
        "channel": "tagged:a", "tf": reds(), "recover": true, "epoch": epoch, "offset": 4,
    });
    let reply = client.ask("subscribe", wish).await["subscribe"].clone();
    let recovered: Vec<&Value> =
        reply["publications"].as_array().unwrap().iter().map(|each| &each["data"]).collect();
    assert_eq!((&reply["recovered"], recovered), (&json!(true), vec![&json!(7)]), "{reply}");
    world.publish_tagged("tagged:a", json!(8), "blue").await;
    world.publish_tagged("tagged:a", json!(9), "red").await;
    assert_eq!(client.publication("tagged:a").await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_filter_needs_the_namespaces_leave_and_has_to_make_sense() {
    let world = World::new();
    let (mut client, _) = world.user("bo").await;
    let wish = |channel: &str, tf: Value| json!({ "channel": channel, "tf": tf });
    assert_eq!(client.refused("subscribe", wish("kept:a", reds())).await, 107);
    assert_eq!(client.refused("subscribe", wish("closed:a", reds())).await, 107);
    let nonsense = json!({ "key": "k", "cmp": "like", "val": "x" });
    assert_eq!(client.refused("subscribe", wish("tagged:a", nonsense)).await, 107);
    let mut deep = reds();
    for _ in 0..8 {
        deep = json!({ "op": "not", "nodes": [deep] });
    }
    assert_eq!(client.refused("subscribe", wish("tagged:a", deep)).await, 107);
    let huge = json!({ "key": "k", "cmp": "eq", "val": "x".repeat(10_000) });
    assert_eq!(client.refused("subscribe", wish("tagged:a", huge)).await, 107);
    // Nothing of it is left.
    let reply = client.ask("subscribe", wish("tagged:a", reds())).await;
    assert!(reply["subscribe"].is_object(), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_with_a_filter_gets_no_differences() {
    let world = World::new();
    let (mut client, _) = world.user("bo").await;
    let both = json!({ "channel": "tagged:a", "delta": "fossil", "tf": reds() });
    let reply = client.ask("subscribe", both).await;
    assert!(reply["subscribe"].get("delta").is_none(), "{reply}");
    world.publish_tagged("tagged:a", json!({ "plain": true }), "red").await;
    assert_eq!(client.publication("tagged:a").await, json!({ "plain": true }));
    let alone = json!({ "channel": "tagged:b", "delta": "fossil" });
    let reply = client.ask("subscribe", alone).await;
    assert_eq!(reply["subscribe"]["delta"], true, "{reply}");
}
