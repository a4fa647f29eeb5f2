//! What a service manager such as systemd is told over its socket.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use crate::harness::{SOON, naru_command};

/// The service manager's end of the socket, and the server that reports to it. Killed when dropped.
struct Service {
    socket: UnixDatagram,
    child: Child,
    _temporary: tempfile::TempDir,
}

impl Service {
    fn start(watchdog_usec: &str) -> Service {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let child = naru_command()
            .arg("serve")
            .arg("--data-dir")
            .arg(temporary.path().join("data"))
            .args([
                "--set",
                "bridge.listen=127.0.0.1:0",
                "--set",
                "http.listen=127.0.0.1:0",
                "--set",
                "stomp.listen=127.0.0.1:0",
            ])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", watchdog_usec)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { socket, child, _temporary: temporary }
    }

    fn told(&self) -> String {
        let mut buffer = [0; 512];
        let count = self.socket.recv(&mut buffer).expect("the service manager is told something");
        String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_service_manager_is_told_of_readiness_beats_and_the_end() {
    let mut service = Service::start("200000");
    assert_eq!(service.told(), "READY=1");
    for _ in 0..3 {
        assert_eq!(service.told(), "WATCHDOG=1");
    }
    let pid = service.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    loop {
        match service.told().as_str() {
            "WATCHDOG=1" => {}
            last => {
                assert_eq!(last, "STOPPING=1");
                break;
            }
        }
    }
    assert!(service.child.wait().unwrap().success());
}
