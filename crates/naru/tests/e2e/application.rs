//! A small HTTP server of the test's own, in threads: it answers by a function and remembers what it was
//! asked. It can go away and come back on the same port.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::harness::SOON;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

type Answer = fn(&Asked) -> Value;

/// See the module.
pub(crate) struct Application {
    address: SocketAddr,
    answer: Answer,
    log: Arc<(Mutex<Vec<Asked>>, Condvar)>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Application {
    pub(crate) fn start(answer: Answer) -> Application {
        let mut application = Application {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            answer,
            log: Arc::default(),
            open: Arc::default(),
            is_over: Arc::default(),
            listening: None,
        };
        application.resume();
        application
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, on the same port as before.
    pub(crate) fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the port is free");
        self.address = listener.local_addr().expect("an address");
        self.is_over = Arc::default();
        let (log, open, is_over) =
            (Arc::clone(&self.log), Arc::clone(&self.open), Arc::clone(&self.is_over));
        let answer = self.answer;
        self.listening = Some(std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                open.lock().expect("no panic").push(stream.try_clone().expect("a handle"));
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(&stream, answer, &log));
            }
        }));
    }

    /// Goes away: the port is closed, and so are all connections.
    pub(crate) fn stop(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        listening.join().expect("it ends");
        for stream in self.open.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// The `count`-th request of this path, once it has come.
    pub(crate) fn wait_for(&self, path: &str, count: usize) -> Asked {
        let (log, came) = &*self.log;
        let of_path = |log: &[Asked]| -> Option<Asked> {
            log.iter().filter(|asked| asked.path == path).nth(count - 1).cloned()
        };
        let log = log.lock().expect("no panic");
        let waited = came.wait_timeout_while(log, SOON, |log| of_path(log).is_none());
        let (log, _) = waited.expect("no panic");
        of_path(&log).unwrap_or_else(|| panic!("{path} was not asked {count} times: {log:#?}"))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(stream: &TcpStream, answer: Answer, log: &(Mutex<Vec<Asked>>, Condvar)) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(asked) = read(&mut reader) {
        let body = answer(&asked).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        log.0.lock().expect("no panic").push(asked);
        log.1.notify_all();
        if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut asked = Asked { path, headers, body: Value::Null };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = serde_json::from_slice(&body).expect("JSON");
    Some(asked)
}
