//! The queue of what a connection writes, on sockets that take what they like.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use naru_gateways::out::{OutQueue, SLICES_MAX};
use tokio::io::AsyncWrite;

/// Takes at most so many bytes in each call, and holds them back until it is flushed.
#[derive(Default)]
struct Sink {
    takes: Vec<usize>,
    taken: Vec<u8>,
    flushes: usize,
    slices: Vec<usize>,
    flush_waits: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.slices.push(slices.len());
        let Some(takes) = self.takes.pop() else { return Poll::Pending };
        let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = takes.min(offered.len());
        self.taken.extend(&offered[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        if self.flush_waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn write(queue: &mut OutQueue, sink: &mut Sink) -> Poll<io::Result<usize>> {
    queue.poll_write(sink, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn bytes_leave_in_order_however_few_are_taken_at_a_time() {
    let pieces = ["one", "", "twenty-two", "3", "four"];
    let expected = pieces.concat();
    for takes in 1..=expected.len() {
        let mut queue = OutQueue::new();
        for piece in pieces {
            queue.push(Bytes::from_static(piece.as_bytes()));
        }
        let mut sink = Sink { takes: vec![takes; expected.len()], ..Sink::default() };
        let mut written = 0;
        loop {
            assert_eq!(queue.bytes(), expected.len() - written);
            match write(&mut queue, &mut sink) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(count)) => written += count,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((sink.taken, written), (expected.clone().into_bytes(), expected.len()));
        assert!(queue.is_empty());
    }
}

#[test]
fn many_buffers_go_with_one_call_up_to_the_limit() {
    let mut queue = OutQueue::new();
    for _ in 0..SLICES_MAX + 10 {
        queue.push(Bytes::from_static(b"ab"));
    }
    let mut sink = Sink { takes: vec![1000; 2], ..Sink::default() };
    assert!(
        matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(count)) if count == SLICES_MAX * 2)
    );
    assert!(matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(20))));
    assert_eq!(sink.slices, [SLICES_MAX, 10]);
}

#[test]
fn what_a_layer_below_holds_back_is_not_written_yet() {
    let mut queue = OutQueue::new();
    let mut sink = Sink { takes: vec![1000], flush_waits: true, ..Sink::default() };
    assert!(matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(0))));
    assert_eq!(sink.flushes, 0, "nothing was written, so nothing is flushed");
    queue.push(Bytes::from_static(b"held"));
    assert!(matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(4))));
    assert!(write(&mut queue, &mut sink).is_pending());
    sink.flush_waits = false;
    assert!(matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(0))));
    assert!(matches!(write(&mut queue, &mut sink), Poll::Ready(Ok(0))));
    assert_eq!(sink.flushes, 2, "once is enough");
}

#[test]
fn a_socket_that_takes_nothing_and_says_so_is_lost() {
    let mut queue = OutQueue::new();
    queue.push(Bytes::from_static(b"x"));
    let mut sink = Sink { takes: vec![0], ..Sink::default() };
    let Poll::Ready(Err(error)) = write(&mut queue, &mut sink) else { panic!("an error") };
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}
