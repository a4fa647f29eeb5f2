//! Asks, tells and listens to Minecraft Java servers over their management protocol: one WebSocket for all.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, ORIGIN};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Asker, Teller, told, within};
use crate::codec::management::{self, Message};
use crate::endpoint::Endpoint;
use crate::error::{AskError, TellError};
use crate::limits::{BODY_BYTES_MAX, EVENTS_WAITING_MAX, TOLD_BYTES_MAX};
use crate::status::{Event, Status, Want};
use crate::text::{Colours, clean_lines};

/// Newer servers let in only origins that their `management-server-allowed-origins` names.
const OUR_ORIGIN: &str = "naru";

/// The library would keep 128 KiB per connection.
const BUFFER_BYTES: usize = 4 * 1024;

type Socket = WebSocketStream<TcpStream>;
type Connecting = Pin<Box<dyn Future<Output = Result<Socket, AskError>> + Send>>;

/// A connection to a management server that also gives what the server tells by itself.
pub struct Watcher {
    endpoint: Endpoint,
    socket: Option<Socket>,
    /// Lives on when whoever waited for it gave up, so that a caller with little patience gets through.
    connecting: Option<Connecting>,
    /// What came while a question waited for its answer. `None` if nobody will ask for events.
    waiting: Option<VecDeque<Event>>,
    last_id: u64,
    /// Asked once per connection; the inner `None` is a server that does not tell.
    players_max: Option<Option<u32>>,
}

enum Answered {
    Result(String),
    Refused(String),
}

impl Watcher {
    /// Connects with the first use.
    pub fn new(endpoint: Endpoint) -> Watcher {
        Watcher { waiting: Some(VecDeque::new()), ..Watcher::without_events(endpoint) }
    }

    /// For callers that only ask and tell: events are thrown away.
    pub(super) fn without_events(endpoint: Endpoint) -> Watcher {
        Watcher {
            endpoint,
            socket: None,
            connecting: None,
            waiting: None,
            last_id: 0,
            players_max: None,
        }
    }

    /// The next event, in the order in which the server sent them. Connects if need be, which has the
    /// endpoint's timeout; the wait for an event has none, since a quiet server has nothing to tell.
    ///
    /// Cancel safe: no event is lost by dropping this. After an error the connection is gone and events
    /// may have been missed, so ask for the status; the next call connects anew at once, so pause before.
    pub async fn next(&mut self) -> Result<Event, AskError> {
        loop {
            if let Some(event) = self.waiting.get_or_insert_default().pop_front() {
                return Ok(event);
            }
            if let Message::Event(event) = self.receive().await? {
                return Ok(event);
            }
        }
    }

    /// Whether a connection stands, as far as is known without using it.
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    async fn connected(&mut self) -> Result<&mut Socket, AskError> {
        if self.socket.is_none() {
            let endpoint = &self.endpoint;
            let connecting =
                self.connecting.get_or_insert_with(|| Box::pin(connect(endpoint.clone())));
            let connected = connecting.as_mut().await;
            self.connecting = None;
            self.players_max = None;
            self.socket = Some(connected?);
        }
        self.socket.as_mut().ok_or(AskError::Closed)
    }

    /// The next message, whatever it is. Cancel safe.
    async fn receive(&mut self) -> Result<Message, AskError> {
        let received = loop {
            match self.connected().await?.next().await {
                Some(Ok(Frame::Text(text))) => break management::decode(&text),
                Some(Ok(Frame::Close(_))) | None => break Err(AskError::Closed),
                // Pings are answered by the library with the next read.
                Some(Ok(_)) => (),
                Some(Err(error)) => break Err(trouble_of(&error)),
            }
        };
        if received.is_err() {
            self.socket = None;
        }
        received
    }

    async fn call(
        &mut self,
        method: &str,
        params: &str,
        sent: &mut bool,
    ) -> Result<(Answered, Duration), AskError> {
        self.connected().await?;
        self.last_id += 1;
        let id = self.last_id;
        let request = management::request(id, method, params);
        *sent = true;
        let socket = self.connected().await?;
        if let Err(error) = socket.send(Frame::text(request)).await {
            self.socket = None;
            return Err(trouble_of(&error));
        }
        let began = Instant::now();
        loop {
            let answered = match self.receive().await? {
                Message::Result(of, result) if of == id => {
                    Answered::Result(result.get().to_owned())
                }
                Message::Refused(of, words) if of == id => Answered::Refused(words),
                Message::Event(event) => {
                    self.keep(event)?;
                    continue;
                }
                // Answers to questions that were given up.
                _ => continue,
            };
            return Ok((answered, began.elapsed()));
        }
    }

    /// An event that came in between. Too many of them cannot be kept, and must not get lost unseen.
    fn keep(&mut self, event: Event) -> Result<(), AskError> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        if waiting.len() >= EVENTS_WAITING_MAX {
            self.socket = None;
            return Err(AskError::TooLarge);
        }
        waiting.push_back(event);
        Ok(())
    }

    async fn question(&mut self) -> Result<Status, AskError> {
        self.connected().await?;
        let players_max = match self.players_max {
            Some(known) => known,
            None => match self.call(management::PLAYERS_MAX, "", &mut false).await?.0 {
                Answered::Result(result) => management::players_max(&result),
                Answered::Refused(_) => None,
            },
        };
        self.players_max = Some(players_max);
        match self.call(management::STATUS, "", &mut false).await? {
            (Answered::Result(result), answered_in) => Ok(Status {
                players_max,
                answered_in: Some(answered_in),
                ..management::status(&result)?
            }),
            (Answered::Refused(_), _) => {
                Err(AskError::Unsupported("the server does not know the status method"))
            }
        }
    }
}

async fn connect(endpoint: Endpoint) -> Result<Socket, AskError> {
    within(endpoint.timeout, async {
        if endpoint.password().is_empty() {
            return Err(AskError::Unauthorized);
        }
        let mut request = format!("ws://{}/", endpoint.address)
            .into_client_request()
            .map_err(|error| trouble_of(&error))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", endpoint.password()))
            .map_err(|_| AskError::Unauthorized)?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(ORIGIN, HeaderValue::from_static(OUR_ORIGIN));
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(16 * BUFFER_BYTES)
            .max_message_size(Some(BODY_BYTES_MAX))
            .max_frame_size(Some(BODY_BYTES_MAX));
        let stream = TcpStream::connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        let connected = client_async_with_config(request, stream, Some(config)).await;
        connected.map(|(socket, _)| socket).map_err(|error| trouble_of(&error))
    })
    .await
}

fn trouble_of(error: &tungstenite::Error) -> AskError {
    match error {
        tungstenite::Error::Http(response) if response.status() == 401 => AskError::Unauthorized,
        tungstenite::Error::Http(_) => AskError::Malformed("an HTTP answer instead of a WebSocket"),
        tungstenite::Error::Io(error) => AskError::from(error.kind()),
        tungstenite::Error::Capacity(_) => AskError::TooLarge,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            AskError::Closed
        }
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            | tungstenite::error::ProtocolError::HandshakeIncomplete,
        ) => AskError::Closed,
        _ => AskError::Malformed("not a WebSocket of the management protocol"),
    }
}

#[async_trait]
impl Asker for Watcher {
    async fn ask(&mut self, want: Want) -> Result<Status, AskError> {
        let mut status = within(self.endpoint.timeout, self.question()).await?;
        if want == Want::Counts {
            status.names = None;
        }
        Ok(status)
    }
}

#[async_trait]
impl Teller for Watcher {
    async fn tell(&mut self, command: &str) -> Result<String, TellError> {
        let (method, params) = management::command(command).map_err(TellError::Unfit)?;
        let mut sent = false;
        let timeout = self.endpoint.timeout;
        let result = within(timeout, self.call(method, params, &mut sent)).await;
        match told(result, sent)?.0 {
            Answered::Result(result) if result.len() > TOLD_BYTES_MAX => {
                Err(TellError::Unsure(AskError::TooLarge))
            }
            Answered::Result(result) => Ok(clean_lines(result.as_bytes(), Colours::None)),
            Answered::Refused(words) => Err(TellError::Declined(words)),
        }
    }
}
