//! Rooms as channels: what is told to whom, once and in order, and answers that come by a channel.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use naru_domain::ports::{
    Bus, BusError, ChannelOwner, HistoryPage, HistoryQuery, NamespaceOptions, OwnerError, Post,
};
use naru_domain::{
    Approval, ChannelName, Durability, Membership, PartyInfo, Position, PublicationMeta, RoomKey,
};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions};
use serde_json::{Value, json};

use super::*;

/// The in-process bus, which takes nothing while it is told to.
struct FlakyBus {
    bus: LocalBus,
    is_down: AtomicBool,
}

#[async_trait]
impl Bus for FlakyBus {
    async fn publish(&self, channel: &ChannelName, post: Post) -> Result<Position, BusError> {
        if self.is_down.load(SeqCst) {
            return Err(BusError::Unavailable { reason: "a test says so".to_owned() });
        }
        self.bus.publish(channel, post).await
    }

    fn announce(&self, channel: &ChannelName, membership: Arc<Membership>) {
        self.bus.announce(channel, membership);
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.subscribe(channel).await
    }

    async fn unsubscribe(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.unsubscribe(channel).await
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> Result<HistoryPage, BusError> {
        self.bus.history(channel, query).await
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BusError> {
        self.bus.remove_history(channel).await
    }

    fn namespace(&self, channel: &ChannelName) -> NamespaceOptions {
        self.bus.namespace(channel)
    }

    fn data_bytes_max(&self) -> usize {
        self.bus.data_bytes_max()
    }
}

/// Channels that keep so much of each room and of each bot.
struct Channels {
    hub: Hub,
    bus: Arc<FlakyBus>,
}

impl Channels {
    fn keeping(history_size: usize) -> Channels {
        let kept = NamespaceOptions {
            history_size,
            history_ttl: Duration::ZERO,
            durability: Durability::Memory,
        };
        let mut options = LocalBusOptions::default();
        for namespace in [crate::ROOM_NAMESPACE, crate::BOT_NAMESPACE] {
            options.namespaces.insert(namespace.to_owned(), kept.clone());
        }
        let clock = Arc::new(ManualClock::new(Timestamp(1_767_225_600_000)));
        let (bus, events) = LocalBus::new(options, None, clock.clone());
        let bus = Arc::new(FlakyBus { bus, is_down: AtomicBool::new(false) });
        let hub = Hub::new(HubOptions::default(), Arc::clone(&bus) as _, events, None, clock);
        Channels { hub, bus }
    }

    async fn rig(&self, store: Arc<Store>, processing: Processing) -> Rig {
        // Commands and no webhook: a client is the logic.
        self.rig_with(store, options(processing), None).await
    }

    async fn rig_with(
        &self,
        store: Arc<Store>,
        options: BotsOptions,
        handler: Option<Arc<dyn Handler>>,
    ) -> Rig {
        Rig::with_channels(store, options, handler, Some(self.hub.clone())).await
    }

    /// What a channel keeps, oldest first.
    async fn heard(&self, name: &str) -> Vec<Value> {
        let query = HistoryQuery { since: None, limit: 1_000 };
        let page = self.hub.history(&channel(name), query).await.unwrap();
        page.publications.iter().map(|each| serde_json::from_slice(&each.data).unwrap()).collect()
    }

    /// The same as `event text`.
    async fn lines(&self, name: &str) -> Vec<String> {
        let text = |each: &Value, of: &str| each[of].as_str().unwrap().to_owned();
        let heard = self.heard(name).await;
        heard.iter().map(|each| format!("{} {}", text(each, "event"), text(each, "text"))).collect()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// Publishes as a client does whose user is `weather`.
async fn publish(owner: &Arc<dyn ChannelOwner>, name: &str, body: Value) -> Result<(), OwnerError> {
    publish_with_key(owner, name, body, None).await
}

async fn publish_with_key(
    owner: &Arc<dyn ChannelOwner>,
    name: &str,
    body: Value,
    key: Option<&str>,
) -> Result<(), OwnerError> {
    let publisher = Some(PartyInfo { user: "weather".into(), ..PartyInfo::default() });
    let meta = PublicationMeta { publisher, ..PublicationMeta::default() };
    let post =
        Post { meta: Some(Arc::new(meta)), key: key.map(Arc::from), ..Post::new(body.to_string()) };
    owner.take(&channel(name), post).await
}

#[tokio::test]
async fn whoever_watches_a_room_or_its_bot_hears_the_whole_talk_in_order() {
    for processing in [Processing::Queued, Processing::Direct] {
        let channels = Channels::keeping(100);
        let mut rig = channels.rig(Arc::default(), processing).await;
        let line = rig.line("a").await;
        say(&line, chat(1, 1, "# echo hi")).await;
        rig.settled().await;
        say(&line, chat(2, 2, "elsewhere")).await;
        say(&line, chat(1, 3, "only talk")).await;
        say(&line, chat(1, 3, "only talk")).await;
        say(&line, bare("room 1", "without ids")).await;
        rig.settled().await;
        let room = ["message # echo hi", "reply 에코: hi", "message only talk"];
        assert_eq!(channels.lines("room:demo-bot/1").await, room, "{processing:?}");
        assert_eq!(channels.lines("room:demo-bot/2").await, ["message elsewhere"]);
        let bot = [room[0], room[1], "message elsewhere", room[2]];
        assert_eq!(channels.lines("bot:demo-bot").await, bot);

        let heard = channels.heard("bot:demo-bot").await;
        let message = heard[0]["id"].clone();
        assert!(message.is_i64());
        assert_eq!(heard[0]["channel"], "room:demo-bot/1");
        assert_eq!(heard[0]["room"], json!({"name": "room 1", "channel_id": "1001"}));
        assert_eq!((&heard[1]["message"], &heard[1]["by"]), (&message, &json!({"kind": "bot"})));
        assert_eq!(rig.figure("bots_room_tellings"), 8);
        assert!(rig.drain().await);
    }
}

#[tokio::test]
async fn what_is_not_approved_is_told_to_nobody_and_an_audience_of_none_costs_nothing() {
    let channels = Channels::keeping(100);
    let rig = channels.rig(Arc::default(), Processing::Queued).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "first")).await;
    rig.settled().await;
    rig.bots.set_room_approval(RoomKey(1), Approval::Revoked, "", None).await.unwrap();
    say(&line, chat(1, 2, "second")).await;
    rig.settled().await;
    assert_eq!(channels.lines("room:demo-bot/1").await, ["message first"]);

    let channels = Channels::keeping(0);
    let rig = channels.rig(Arc::default(), Processing::Queued).await;
    say(&rig.line("a").await, chat(1, 1, "# echo hi")).await;
    rig.settled().await;
    assert_eq!(rig.figure("bots_room_tellings"), 0);
    assert_eq!(rig.figure("bots_messages_immediate"), 1, "the short way");
}

#[tokio::test]
async fn a_message_that_only_a_client_may_answer_ends_well() {
    let channels = Channels::keeping(1);
    let rig = channels.rig(Arc::default(), Processing::Queued).await;
    say(&rig.line("a").await, chat(1, 1, "what weather?")).await;
    rig.settled().await;
    assert_eq!(rig.store.state_of("what weather?"), Some(MessageState::Done));
}

#[tokio::test]
async fn answers_by_a_channel_reach_the_phone_in_order_and_are_heard_by_all() {
    for processing in [Processing::Queued, Processing::Direct] {
        let channels = Channels::keeping(100);
        let mut rig = channels.rig(Arc::default(), processing).await;
        let line = rig.line("a").await;
        say(&line, chat(1, 1, "weather?")).await;
        rig.settled().await;
        let owner = rig.bots.room_owner();
        let asked = channels.heard("room:demo-bot/1").await[0]["id"].clone();
        let several = json!({"message": asked, "replies": [{"text": "sunny"}, {"text": "warm"}]});
        publish(&owner, "room:demo-bot/1", several).await.unwrap();
        for number in 0..20 {
            let body = json!({"text": number.to_string()});
            publish(&owner, "room:demo-bot/1", body).await.unwrap();
        }
        let mut texts = vec!["sunny".to_owned(), "warm".to_owned()];
        texts.extend((0..20).map(|number| number.to_string()));
        assert_eq!(rig.sessions.texts(key(&line)), texts, "{processing:?}");
        rig.settled().await;
        let heard = channels.heard("bot:demo-bot").await;
        let replies: Vec<&str> =
            heard.iter().skip(1).map(|each| each["text"].as_str().unwrap()).collect();
        assert_eq!(replies, texts);
        assert_eq!(heard[1]["by"], json!({"kind": "client", "user": "weather"}));
        assert_eq!((&heard[1]["message"], &heard[3]["message"]), (&asked, &Value::Null));
        assert_eq!(rig.figure("bots_room_answers/taken"), 21);
        assert!(rig.drain().await);
    }
}

#[tokio::test]
async fn an_answer_with_a_key_is_said_once_in_its_room_also_after_a_crash() {
    let channels = Channels::keeping(10);
    let mut store = Arc::new(Store::default());
    for life in 0..2 {
        let rig = channels.rig(store, Processing::Queued).await;
        let line = rig.line("a").await;
        say(&line, chat(1, 1, "one")).await;
        say(&line, chat(2, 2, "two")).await;
        rig.settled().await;
        let owner = rig.bots.room_owner();
        let hi = || json!({"text": "hi", "key": "k"});
        publish(&owner, "room:demo-bot/1", hi()).await.unwrap();
        publish(&owner, "room:demo-bot/1", hi()).await.unwrap();
        let outer = publish_with_key(&owner, "room:demo-bot/1", json!({"text": "hi"}), Some("k"));
        outer.await.unwrap();
        publish(&owner, "room:demo-bot/2", hi()).await.unwrap();
        // What the first life said waits for the phone in the second.
        let expected = ["room 1", "room 2"].map(|room| (room.to_owned(), "hi".to_owned()));
        assert_eq!(rig.sessions.said(key(&line)), expected, "life {life}");
        store = rig.crash().await;
    }
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_with_a_reason() {
    let channels = Channels::keeping(10);
    let rig = channels.rig(Arc::default(), Processing::Queued).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "one")).await;
    say(&line, chat(2, 2, "two")).await;
    rig.line_of("other-bot", "b").await;
    rig.settled().await;
    let device = key(&line);
    let owner = rig.bots.room_owner();
    let hi = || json!({"text": "hi"});
    for name in ["room:demo-bot/9", "room:other-bot/1", "room:demo-bot/x", "room:demo-bot", "bot:"]
    {
        let refused = publish(&owner, name, hi()).await;
        assert_eq!(refused, Err(OwnerError::NotFound { what: "room" }), "{name}");
        if name != "bot:" {
            let party = PartyInfo::default();
            assert!(owner.admit(&channel(name), &party).await.is_err(), "{name}");
        }
    }
    let refused = publish(&owner, "bot:demo-bot", hi()).await;
    assert!(matches!(refused, Err(OwnerError::Forbidden { .. })), "{refused:?}");
    let invalid = |refused: Result<(), OwnerError>, reason: &str| match refused {
        Err(OwnerError::Invalid { reason: said }) => assert!(said.contains(reason), "{said}"),
        other => panic!("{other:?}"),
    };
    let room = "room:demo-bot/1";
    invalid(publish(&owner, room, json!({"txt": "hi"})).await, "unknown field");
    invalid(publish(&owner, room, json!({"replies": []})).await, "nothing to send");
    let elsewhere = channels.heard("room:demo-bot/2").await[0]["id"].clone();
    let body = json!({"text": "hi", "message": elsewhere});
    invalid(publish(&owner, room, body).await, "none of this room");
    let long = "k".repeat(101);
    invalid(publish_with_key(&owner, room, hi(), Some(&long)).await, "1 to 100 bytes");
    rig.bots.set_room_approval(RoomKey(1), Approval::Revoked, "", None).await.unwrap();
    let refused = publish(&owner, room, hi()).await;
    let reason = "the room is not approved".to_owned();
    assert_eq!(refused, Err(OwnerError::Forbidden { reason }));
    assert_eq!(rig.figure("bots_room_answers/refused"), 11);
    assert!(rig.sessions.texts(device).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_ends_only_when_it_was_told_and_a_crash_tells_it_once() {
    let channels = Channels::keeping(100);
    let rig = channels.rig(Arc::default(), Processing::Queued).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "told")).await;
    rig.settled().await;
    channels.bus.is_down.store(true, SeqCst);
    for number in 2..=5 {
        say(&line, chat(1, number, &format!("late {number}"))).await;
    }
    rig.until(|| rig.in_state(MessageState::Pending) == 4).await;
    let mut store = rig.crash().await;
    assert_eq!(channels.lines("room:demo-bot/1").await, ["message told"]);

    // The second life tells what was left, and is cut off while the handler still works.
    channels.bus.is_down.store(false, SeqCst);
    let expected = ["told", "late 2", "late 3", "late 4", "late 5"].map(|t| format!("message {t}"));
    let hanging: Arc<dyn Handler> = Arc::new(Hanging);
    let options = options(Processing::Queued);
    for _ in 0..2 {
        let rig = channels.rig_with(store, options.clone(), Some(Arc::clone(&hanging))).await;
        rig.until(|| rig.figure("bots_room_tellings_waiting") == 0).await;
        assert_eq!(channels.lines("room:demo-bot/1").await, expected);
        assert_eq!(channels.lines("bot:demo-bot").await, expected);
        assert_eq!(rig.in_state(MessageState::Pending), 4);
        store = rig.crash().await;
    }
    let mut rig = channels.rig(store, Processing::Queued).await;
    rig.settled().await;
    assert_eq!(channels.lines("room:demo-bot/1").await, expected);
    // Nobody watches in this life, so the log is all there is of those that were told before.
    assert_eq!(rig.in_state(MessageState::Pending), 0);
    assert!(rig.drain().await);
}

/// Works for ever.
struct Hanging;

#[async_trait]
impl Handler for Hanging {
    fn immediate(&self, _: &Incoming) -> Option<Outcome> {
        None
    }

    async fn handle(&self, _: Incoming) -> Result<Outcome, HandlerError> {
        std::future::pending().await
    }
}
