//! What all connections of one user may do together.

use naru_gateways::centrifuge::ClientOptions;
use naru_gateways::limits::UserRates;
use serde_json::json;
use tokio::time::Instant;

use crate::world::World;

fn world(user_rates: UserRates) -> World {
    World::with(ClientOptions { user_rates, ..ClientOptions::default() })
}

#[tokio::test(start_paused = true)]
async fn a_user_who_says_too_much_on_many_connections_is_slowed_down_and_others_are_not() {
    let world = world(UserRates::new(10, 20));
    let (mut one, _) = world.user("bo").await;
    let (mut two, _) = world.user("bo").await;
    for _ in 0..9 {
        one.ask("history", json!({ "channel": "kept:a" })).await;
        two.ask("history", json!({ "channel": "kept:a" })).await;
    }
    let began = Instant::now();
    for client in [&mut one, &mut two] {
        for _ in 0..3 {
            client.ask("history", json!({ "channel": "kept:a" })).await;
        }
    }
    assert!(began.elapsed().as_millis() >= 200, "{:?}", began.elapsed());
    let (mut other, _) = world.user("al").await;
    let began = Instant::now();
    for _ in 0..15 {
        other.ask("history", json!({ "channel": "kept:a" })).await;
    }
    assert_eq!(began.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_over_many_connections_ends_with_the_code_for_it() {
    let world = world(UserRates::new(1, 10));
    let (mut one, _) = world.user("bo").await;
    let (mut two, _) = world.user("bo").await;
    for client in [&mut one, &mut two] {
        let batch: Vec<_> = (2..12)
            .map(|id| json!({ "id": id, "history": { "channel": "kept:a" } }).to_string())
            .collect();
        client.send_text(batch.join("\n")).await;
        for _ in 0..10 {
            assert_eq!(client.next().await.unwrap()["error"]["code"], 103);
        }
    }
    let (code, reason) = two.next().await.unwrap_err();
    assert_eq!((code, reason.as_str()), (3013, "too many requests"));
}
