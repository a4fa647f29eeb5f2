//! Messages that do not go to a channel by its name: to users, to whoever asked, to the application.

use std::sync::Arc;

use naru_gateways::stomp::StompOptions;
use naru_wire::stomp::Command;

use crate::world::{Application, World};

fn with_application() -> World {
    let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
    World::with(options, Some(Arc::new(Application::default())))
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_a_user_reaches_all_its_connections_and_nobody_else() {
    let world = World::new();
    let mut ann = world.user("ann").await;
    let mut phone = world.user("ann").await;
    let mut bob = world.user("bob").await;
    for client in [&mut ann, &mut phone, &mut bob] {
        client.subscribe("s", "/user/queue/news", &[]).await;
    }
    bob.say("/user/ann/queue/news", "hello", &[]).await;
    let (body, frame) = ann.message().await;
    assert_eq!((body.as_str(), frame.header("destination")), ("hello", Some("/user/queue/news")));
    assert_eq!(phone.bodies(1).await, ["hello"]);
    bob.assert_quiet().await;
    // It is kept for a while.
    let last = frame.header("position").unwrap().to_owned();
    drop(ann);
    bob.say("/user/ann/queue/news", "more", &[]).await;
    let mut ann = world.user("ann").await;
    ann.subscribe("s", "/user/queue/news", &[("last-position", &last)]).await;
    assert_eq!(ann.bodies(1).await, ["more"]);
    let mut anonymous = world.anonymous().await;
    let send = [("destination", "/user/ann/queue/news")];
    anonymous.send(Command::Send, &send, "x").await;
    anonymous.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_back_to_the_connection_that_asked() {
    let world = World::new();
    let (mut ann, mut bob) = (world.user("ann").await, world.user("bob").await);
    bob.subscribe("s", "/topic/questions", &[]).await;
    ann.subscribe("replies", "/temp-queue/r", &[]).await;
    ann.say("/topic/questions", "why?", &[("reply-to", "/temp-queue/r")]).await;
    let (_, question) = bob.message().await;
    let reply_to = question.header("reply-to").unwrap().to_owned();
    assert_ne!(reply_to, "/temp-queue/r");
    bob.say(&reply_to, "because", &[]).await;
    let (body, answer) = ann.message().await;
    assert_eq!((body.as_str(), answer.header("destination")), ("because", Some("/temp-queue/r")));
    // Nobody else may read it, and nothing goes wrong when it is gone.
    drop(ann);
    bob.say(&reply_to, "too late", &[]).await;
    bob.send(Command::Subscribe, &[("id", "x"), ("destination", &reply_to)], "").await;
    bob.refused("forbidden").await;
}

#[tokio::test(start_paused = true)]
async fn the_application_is_called_and_its_answer_goes_where_it_is_wanted() {
    let world = with_application();
    let mut ann = world.user("ann").await;
    ann.subscribe("s", "/temp-queue/r", &[]).await;
    ann.subscribe("t", "/user/queue/r", &[]).await;
    for reply_to in ["/temp-queue/r", "/user/queue/r"] {
        let headers = [("reply-to", reply_to), ("correlation-id", "c-1")];
        ann.say("/app/add/one", "1", &headers).await;
        let (body, frame) = ann.message().await;
        assert_eq!(body, "add/one 1 of ann");
        assert_eq!(frame.header("destination"), Some(reply_to));
        assert_eq!(frame.header("correlation-id"), Some("c-1"));
    }
    ann.say("/app/add/one", "1", &[]).await;
    ann.assert_quiet().await;
    for (path, code) in [("/app/fail", "forbidden"), ("/app/down", "unavailable")] {
        let mut client = world.user("ann").await;
        client.send(Command::Send, &[("destination", path), ("receipt", "r")], "").await;
        assert_eq!(client.refused(code).await.header("receipt-id"), Some("r"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_decides_where_the_namespace_says_so() {
    let world = with_application();
    let mut ann = world.user("ann").await;
    ann.subscribe("s", "/topic/asks:yes", &[]).await;
    ann.say("/topic/asks:yes", "hi", &[]).await;
    assert_eq!(ann.bodies(1).await, ["hi!"]);
    for command in [Command::Subscribe, Command::Send] {
        let mut client = world.user("ann").await;
        client.send(command, &[("id", "1"), ("destination", "/topic/asks:no")], "").await;
        let error = client.refused("forbidden").await;
        assert!(error.header("message").unwrap().starts_with("not "));
    }
}
