//! The task that speaks with one keeper: hands on what the loop asks, and tells what the keeper says.

use tokio::sync::{mpsc, oneshot};

use super::news::{Happened, Teller};
use crate::keeper::{Client, Event, Lost, RequestError, Target};

/// Requests that wait for a keeper at most; a keeper answers at once.
pub(super) const ASKS_MAX: usize = 16;

/// What the loop asks of a keeper.
pub(super) enum KeeperAsk {
    /// Say this line to the game.
    Input(String, oneshot::Sender<Result<(), RequestError>>),
    /// Send this signal.
    Signal(i32, Target, oneshot::Sender<Result<(), RequestError>>),
}

/// Speaks with the keeper until it ends or the loop lets go.
pub(super) async fn hold(mut client: Client, mut asks: mpsc::Receiver<KeeperAsk>, teller: Teller) {
    loop {
        tokio::select! {
            event = client.next_event() => match event {
                Ok(event) => {
                    let is_last = matches!(event, Event::Empty);
                    teller.tell(Happened::Keeper(event)).await;
                    if is_last {
                        return;
                    }
                }
                Err(lost) => {
                    let is_superseded = lost == Lost::Superseded;
                    teller.tell(Happened::KeeperLost { is_superseded }).await;
                    return;
                }
            },
            ask = asks.recv() => match ask {
                None => return,
                // Nobody waits for an answer any more when these fail.
                Some(KeeperAsk::Input(line, reply)) => drop(reply.send(client.input(&line).await)),
                Some(KeeperAsk::Signal(signal, to, reply)) => {
                    drop(reply.send(client.signal(signal, to).await));
                }
            },
        }
    }
}
