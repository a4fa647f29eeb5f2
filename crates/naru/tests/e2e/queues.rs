//! Work queues across `kill -9`: what had a receipt is there afterwards, in order; what was acknowledged
//! with a receipt does not come again; what nobody can do ends among the dead letters all the same.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::harness::{SOON, Server, eventually};

const ALL: &str = "allow_subscribe_for_client=true,allow_subscribe_for_anonymous=true,\
                   allow_publish_for_client=true,allow_publish_for_anonymous=true";

fn server(settings: &[&str]) -> Server {
    let queue = format!(r#"channels.namespaces.queue={{durability="disk",{ALL}}}"#);
    let dead =
        format!("channels.namespaces.dead-letters={{{ALL},force_recovery=true,history_size=9}}");
    let mut all = vec!["stomp.allow_anonymous=true", &queue, &dead];
    all.extend(settings);
    Server::with(&all)
}

/// A frame of the server: its command, its headers as they stand there, its body.
#[derive(Debug)]
struct Frame {
    command: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Frame {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

/// A client in bytes, which shares no code with the server.
struct Client {
    stream: BufReader<TcpStream>,
    receipts: u32,
}

impl Client {
    fn connect(server: &Server) -> Client {
        let stream = TcpStream::connect(server.stomp).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut client = Client { stream: BufReader::new(stream), receipts: 0 };
        client.send("CONNECT\naccept-version:1.2\nhost:x\n\n\0");
        client.expect("CONNECTED");
        client
    }

    fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Frame {
        let mut line = String::new();
        while line.trim_end().is_empty() {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the connection ended");
        }
        let command = line.trim_end().to_owned();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end_matches('\n').split_once(':') else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut frame = Frame { command, headers, body: String::new() };
        let mut body = Vec::new();
        match frame.header("content-length").map(|bytes| bytes.parse::<usize>().unwrap()) {
            Some(bytes) => {
                body.resize(bytes + 1, 0);
                self.stream.read_exact(&mut body).unwrap();
            }
            None => drop(self.stream.read_until(0, &mut body).unwrap()),
        }
        assert_eq!(body.pop(), Some(0), "{frame:?}");
        frame.body = String::from_utf8(body).unwrap();
        frame
    }

    fn expect(&mut self, command: &str) -> Frame {
        let frame = self.read();
        assert_eq!(frame.command, command, "{frame:?}");
        frame
    }

    /// Sends a frame whose headers end behind `head`, and waits for its receipt. What comes before it is
    /// returned.
    fn ask(&mut self, head: &str, body: &str) -> Vec<Frame> {
        self.receipts += 1;
        let receipt = self.receipts.to_string();
        self.send(&format!("{head}\nreceipt:{receipt}\n\n{body}\0"));
        let mut before = Vec::new();
        loop {
            let frame = self.read();
            if frame.command == "RECEIPT" {
                assert_eq!(frame.header("receipt-id"), Some(&*receipt));
                return before;
            }
            assert_eq!(frame.command, "MESSAGE", "{frame:?}");
            before.push(frame);
        }
    }

    fn subscribe(&mut self, destination: &str, headers: &str) {
        let head =
            format!("SUBSCRIBE\nid:w\ndestination:{destination}\nack:client-individual{headers}");
        self.send(&format!("{head}\n\n\0"));
    }

    fn ack(&mut self, message: &Frame) {
        self.send(&format!("ACK\nid:{}\n\n\0", message.header("ack").unwrap()));
    }
}

#[test]
fn a_queue_loses_nothing_by_kill_9_and_repeats_nothing_that_was_settled_with_a_receipt() {
    const MESSAGES: u32 = 200;
    let mut server = server(&[]);
    let mut sender = Client::connect(&server);
    for number in 0..MESSAGES {
        let head = "SEND\ndestination:/queue/jobs\ncontent-type:text/plain";
        assert!(sender.ask(head, &number.to_string()).is_empty());
    }
    let mut worker = Client::connect(&server);
    worker.subscribe("/queue/jobs", "\nprefetch-count:60");
    let taken: Vec<Frame> = (0..60).map(|_| worker.expect("MESSAGE")).collect();
    let body = |frame: &Frame| frame.body.parse::<u32>().unwrap();
    assert_eq!(taken.iter().map(body).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    // Every third is done, and a receipt says so; the next ten are done without anybody knowing.
    let settled: BTreeSet<u32> = (0..60).step_by(3).collect();
    for frame in taken.iter().filter(|frame| settled.contains(&body(frame))) {
        worker.ack(frame);
    }
    let mut later = worker.ask("BEGIN\ntransaction:t", "");
    for frame in taken.iter().filter(|frame| !settled.contains(&body(frame))).take(10) {
        worker.ack(frame);
    }
    server.kill_and_restart();

    assert_eq!(server.metric("naru_queue_stored_total"), 0.0);
    let left = server.metric("naru_queue_loaded_total");
    let mut worker = Client::connect(&server);
    worker.subscribe("/queue/jobs", "");
    let mut found = Vec::new();
    while found.last().is_none_or(|frame| body(frame) != MESSAGES - 1) {
        found.push(worker.expect("MESSAGE"));
    }
    let numbers: Vec<u32> = found.iter().map(body).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert_eq!((found.len() as f64, server.metric("naru_queue_redelivered_total")), (left, left));
    assert!(numbers.iter().all(|number| !settled.contains(number)), "{numbers:?}");
    // Only what was acknowledged may be missing.
    let acknowledged: BTreeSet<u32> = (0..60).filter(|n| !settled.contains(n)).take(10).collect();
    let expected = (0..MESSAGES).filter(|n| !settled.contains(n) && !acknowledged.contains(n));
    assert!(expected.into_iter().all(|number| numbers.contains(&number)), "{numbers:?}");
    assert!(found.iter().all(|frame| frame.header("redelivered") == Some("true")));
    let of = |frames: &[Frame], number| {
        let frame = frames.iter().find(|frame| body(frame) == number).unwrap();
        frame.header("message-id").unwrap().to_owned()
    };
    assert_eq!(of(&found, 59), of(&taken, 59), "the same message has the same id");
    later.retain(|frame| numbers.contains(&body(frame)));
    assert!(later.iter().all(|frame| of(&found, body(frame)) == of(&later, body(frame))));

    for frame in &found {
        worker.ack(frame);
    }
    assert!(worker.ask("BEGIN\ntransaction:t", "").is_empty());
    server.kill_and_restart();
    assert_eq!(server.metric("naru_queue_loaded_total"), 0.0);
}

#[test]
fn a_message_that_takes_the_server_down_each_time_becomes_a_dead_letter_and_is_not_lost() {
    let mut server = server(&["stomp.queue_deliveries=3"]);
    let head = "SEND\ndestination:/queue/jobs\nidempotency-key:k";
    Client::connect(&server).ask(head, "poison");
    for delivery in 1..=3 {
        let mut worker = Client::connect(&server);
        worker.subscribe("/queue/jobs", "");
        let frame = worker.expect("MESSAGE");
        let count = frame.header("delivery-count").map_or(1, |count| count.parse().unwrap());
        assert_eq!((frame.body.as_str(), count), ("poison", delivery));
        eventually("the delivery is kept", || {
            (server.metric("naru_queue_notes") == 0.0).then_some(())
        });
        // The key still counts: this is no new message.
        Client::connect(&server).ask(head, "poison");
        server.kill_and_restart();
    }
    eventually("it is among the dead letters", || {
        (server.metric("naru_stomp_dead_letters_total") == 1.0).then_some(())
    });
    server.kill_and_restart();
    // It may have died before it knew that, and then the letter is not written twice.
    eventually("the queue is empty for good", || {
        let left = server.metric("naru_queue_messages") + server.metric("naru_queue_notes");
        (left == 0.0).then_some(())
    });
    let mut reader = Client::connect(&server);
    reader.subscribe("/topic/dead-letters:jobs", "\nlast-position:0\\c0");
    assert_eq!(reader.expect("MESSAGE").body, "poison");
    assert!(reader.ask("BEGIN\ntransaction:t", "").is_empty());
    server.kill_and_restart();
    assert_eq!(server.metric("naru_queue_loaded_total"), 0.0);
}

#[test]
fn a_signal_keeps_what_was_not_kept_yet() {
    let mut server = server(&[]);
    Client::connect(&server).ask("SEND\ndestination:/queue/jobs", "one");
    Client::connect(&server).ask("SEND\ndestination:/queue/jobs", "two");
    let mut worker = Client::connect(&server);
    worker.subscribe("/queue/jobs", "");
    let (one, two) = (worker.expect("MESSAGE"), worker.expect("MESSAGE"));
    assert_eq!((one.body.as_str(), two.body.as_str()), ("one", "two"));
    worker.ack(&one);
    // Read, and so heard by the server, before the signal.
    eventually("the acknowledgement is heard", || {
        (server.metric("naru_queue_done_total") == 1.0).then_some(())
    });
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    let mut worker = Client::connect(&server);
    worker.subscribe("/queue/jobs", "");
    let again = worker.expect("MESSAGE");
    assert_eq!((again.body.as_str(), again.header("delivery-count")), ("two", Some("2")));
    assert_eq!(server.metric("naru_queue_loaded_total"), 1.0);
}
