//! HTTP over one connection that is kept: hyper's client without its task. The connection is driven while a
//! question waits for its answer, and sleeps in between.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::AskError;
use crate::limits::BODY_BYTES_MAX;

/// Bytes of the buffer in which the head of an answer must fit: twice the least that hyper allows.
const HEAD_BYTES_MAX: usize = 16 * 1024;

type Driven = Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

pub(super) struct HttpLine {
    sender: SendRequest<Full<Bytes>>,
    connection: Option<Driven>,
}

/// What became of a request that failed.
pub(super) struct HttpTrouble {
    pub(super) error: AskError,
    /// Whether the server cannot have seen it.
    pub(super) unsent: bool,
}

impl HttpLine {
    pub(super) async fn connect(address: SocketAddr) -> Result<HttpLine, AskError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| trouble_of(&error))?;
        Ok(HttpLine { sender, connection: Some(Box::pin(connection)) })
    }

    /// Sends a request and gives status and body of the answer.
    pub(super) async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), HttpTrouble> {
        let HttpLine { sender, connection } = self;
        let mut exchange = pin!(async {
            let unsent =
                |error: hyper::Error| HttpTrouble { error: trouble_of(&error), unsent: true };
            // Learns here if the server has closed the connection in the meantime.
            sender.ready().await.map_err(unsent)?;
            let response = sender.send_request(request).await.map_err(|error| HttpTrouble {
                error: trouble_of(&error),
                unsent: error.is_canceled(),
            })?;
            let status = response.status();
            let body = body(response).await;
            body.map(|body| (status, body)).map_err(|error| HttpTrouble { error, unsent: false })
        });
        poll_fn(|context| {
            // What is wrong with the connection shows in the exchange, too; ended, it is not asked again.
            if connection.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready()) {
                *connection = None;
            }
            exchange.as_mut().poll(context)
        })
        .await
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes, AskError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| trouble_of(&error))?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(AskError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn trouble_of(error: &hyper::Error) -> AskError {
    if error.is_parse_too_large() {
        AskError::TooLarge
    } else if error.is_parse() {
        AskError::Malformed("not HTTP")
    } else {
        AskError::Closed
    }
}
