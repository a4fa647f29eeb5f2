//! The management protocol: questions and events over one WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use naru_games::{
    AskError, Asker, Endpoint, Event, Player, Protocol, Secret, TellError, Teller, Want, Watcher,
    asker,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Message, http};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::support::{Log, PATIENT, SHORT, endpoint, hold, names, nobody, tcp};

type Socket = WebSocketStream<TcpStream>;

#[expect(clippy::result_large_err, reason = "the library's callback is like this")]
fn admit(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    let header = |name: &str| request.headers().get(name).map(|it| it.as_bytes().to_vec());
    let known = header("authorization") == Some(b"Bearer hunter2".to_vec());
    if known && header("origin") == Some(b"naru".to_vec()) {
        return Ok(response);
    }
    let refusal = http::Response::builder().status(401).body(None);
    Err(refusal.expect("a response"))
}

async fn send(socket: &mut Socket, message: Value) {
    drop(socket.send(Message::text(message.to_string())).await);
}

fn notification(path: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": format!("minecraft:notification/{path}"), "params": params})
}

/// A game that announces what happens before it answers.
async fn game(stream: TcpStream, _: usize, log: Log) {
    log.add(b"connected");
    let Ok(mut socket) = accept_hdr_async(stream, admit).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Ok(text) = message.to_text() else { continue };
        let Ok(request) = serde_json::from_str::<Value>(text) else { return };
        let id = request["id"].clone();
        log.add(text.as_bytes());
        let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        match request["method"].as_str().unwrap_or_default() {
            "minecraft:server/status" => {
                let ann = json!([{"id": "8a5d", "name": "ann"}]);
                send(&mut socket, notification("players/joined", ann.clone())).await;
                // An answer to nobody's question.
                send(&mut socket, json!({"id": 9_999, "result": {"started": true}})).await;
                let version = json!({"name": "1.21.9", "protocol": 773});
                let status = json!({"players": ann, "started": true, "version": version});
                send(&mut socket, result(status)).await;
            }
            "minecraft:serversettings/max_players" => send(&mut socket, result(json!(20))).await,
            "minecraft:server/save" => {
                send(&mut socket, notification("server/saving", json!([]))).await;
                send(&mut socket, notification("server/saved", json!([]))).await;
                send(&mut socket, result(json!(true))).await;
            }
            "minecraft:server/stop" => {
                send(&mut socket, notification("server/stopping", json!([]))).await;
                drop(socket.close(None).await);
                return;
            }
            "minecraft:flood" => {
                for _ in 0..300 {
                    send(&mut socket, notification("server/saving", json!([]))).await;
                }
            }
            _ => {
                let error = json!({"code": -32601, "message": "Method not found"});
                send(&mut socket, json!({"id": id, "error": error})).await;
            }
        }
    }
}

fn ann() -> Player {
    Player { id: Some("8a5d".into()), name: "ann".into() }
}

#[tokio::test]
async fn events_that_come_between_questions_are_kept_in_their_order() {
    let server = tcp(game).await;
    let mut watcher = Watcher::new(endpoint(server.address, PATIENT));
    let status = watcher.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(1), Some(20)));
    assert_eq!((names(&status), status.version.as_deref()), (Some(vec!["ann"]), Some("1.21.9")));
    assert_eq!(watcher.tell(r#"minecraft:server/save {"flush":true}"#).await.unwrap(), "true");
    for expected in [Event::Joined(ann()), Event::Saving, Event::Saved] {
        assert_eq!(watcher.next().await, Ok(expected));
    }
    let stopped = watcher.tell("minecraft:server/stop").await;
    assert_eq!(stopped, Err(TellError::Unsure(AskError::Closed)));
    assert!(!watcher.is_connected());
    assert_eq!(watcher.next().await, Ok(Event::Stopping));
    // The number of places is asked once per connection.
    assert_eq!(server.log.len(), 5);
}

#[tokio::test]
async fn refusals_say_why_and_unfit_commands_are_not_sent() {
    let server = tcp(game).await;
    let mut watcher = Watcher::new(endpoint(server.address, PATIENT));
    let declined = watcher.tell("minecraft:unknown").await;
    assert_eq!(declined, Err(TellError::Declined("-32601 Method not found".into())));
    assert!(matches!(watcher.tell("stop").await, Err(TellError::Unfit(_))));
    for password in [Some(Secret::new("wrong")), None] {
        let wrong = Endpoint { password, ..endpoint(server.address, PATIENT) };
        assert_eq!(Watcher::new(wrong.clone()).next().await, Err(AskError::Unauthorized));
        let told = Watcher::new(wrong).tell("minecraft:server/stop").await;
        assert_eq!(told, Err(TellError::NotDone(AskError::Unauthorized)));
    }
}

#[tokio::test]
async fn waiting_for_events_can_be_dropped_at_any_time_without_losing_one() {
    let server = tcp(|stream, _, log| async move {
        let mut socket = accept_hdr_async(stream, admit).await.expect("our client");
        for number in 0..200 {
            let player = json!({"player": {"id": number.to_string(), "name": "ann"}});
            send(&mut socket, notification("players/left", player)).await;
            tokio::task::yield_now().await;
        }
        log.add(b"all sent");
        drop(socket.next().await);
    })
    .await;
    let mut watcher = Watcher::new(endpoint(server.address, PATIENT));
    let mut heard = 0;
    while heard < 200 {
        tokio::select! {
            biased;
            event = watcher.next() => {
                let Ok(Event::Left(player)) = event else { panic!("{event:?}") };
                assert_eq!(player.id, Some(heard.to_string()));
                heard += 1;
            }
            // Gives up after each turn of the runtime, also while connecting.
            () = tokio::task::yield_now() => (),
        }
    }
    assert_eq!(heard, 200);
}

#[tokio::test]
async fn a_flood_of_events_ends_the_connection_rather_than_losing_some() {
    let server = tcp(game).await;
    let mut watcher = Watcher::new(endpoint(server.address, PATIENT));
    let flooded = watcher.tell("minecraft:flood").await;
    assert_eq!(flooded, Err(TellError::Unsure(AskError::TooLarge)));
    assert!(!watcher.is_connected());
    // Who does not want events has none to lose.
    let mut client =
        naru_games::both(Protocol::MinecraftManagement, endpoint(server.address, SHORT * 4))
            .unwrap();
    let unanswered = client.tell("minecraft:flood").await;
    assert_eq!(unanswered, Err(TellError::Unsure(AskError::Timeout)));
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(1));
}

#[tokio::test]
async fn other_programs_and_silence_are_told_apart() {
    let manage = |address, timeout: Duration| {
        asker(Protocol::MinecraftManagement, endpoint(address, timeout)).unwrap()
    };
    let refused = manage(nobody().await, PATIENT).ask(Want::Counts).await;
    assert_eq!(refused, Err(AskError::Refused));
    let silent = tcp(|stream, _, _| hold(stream)).await;
    let timed_out = manage(silent.address, SHORT).ask(Want::Counts).await;
    assert_eq!(timed_out, Err(AskError::Timeout));
    let closing = tcp(|stream, _, _| async move { drop(stream) }).await;
    let closed = manage(closing.address, PATIENT).ask(Want::Counts).await;
    assert_eq!(closed, Err(AskError::Closed));
    let talker = tcp(|stream, _, _| async move {
        let mut socket = accept_hdr_async(stream, admit).await.expect("our client");
        drop(socket.send(Message::text("hello")).await);
        drop(socket.next().await);
    })
    .await;
    let malformed = manage(talker.address, PATIENT).ask(Want::Counts).await;
    assert!(matches!(malformed, Err(AskError::Malformed(_))), "{malformed:?}");
    let huge = tcp(|stream, _, _| async move {
        let mut socket = accept_hdr_async(stream, admit).await.expect("our client");
        drop(socket.send(Message::text("x".repeat(2_000_000))).await);
        drop(socket.next().await);
    })
    .await;
    let too_large = manage(huge.address, PATIENT).ask(Want::Counts).await;
    assert_eq!(too_large, Err(AskError::TooLarge));
}
