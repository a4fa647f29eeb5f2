//! Splits what the server sends into lines as `BufferedReader.readLine` does: CR, LF and CRLF all
//! end a line, so a stray CR cuts a frame in two here as it does on a phone.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A phone would run out of memory about here.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Reads lines; keeps unfinished ones between calls.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already searched.
    searched: usize,
    /// The last line ended with CR: an LF right after it belongs to it.
    skip_lf: bool,
}

impl Lines {
    /// The next line without its end, or `None` at the end of the stream, where an unfinished line
    /// counts as one. Cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn next<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
    ) -> io::Result<Option<String>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "endless line"));
            }
            if reader.read_buf(&mut self.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.buffer);
                self.searched = 0;
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
        }
    }

    fn take(&mut self) -> Option<String> {
        if self.skip_lf && self.buffer.first() == Some(&b'\n') {
            self.buffer.remove(0);
            self.skip_lf = false;
        }
        let Some(end) = memchr::memchr2(b'\n', b'\r', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + end;
        self.skip_lf = self.buffer[end] == b'\r';
        let line = text(&self.buffer[..end]);
        self.buffer.drain(..=end);
        self.searched = 0;
        Some(line)
    }
}

/// Like Java, which replaces what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let (mut ours, theirs) = tokio::io::duplex(3);
        let pieces = pieces.concat();
        let writing = async move {
            use tokio::io::AsyncWriteExt as _;
            let mut theirs = theirs;
            theirs.write_all(&pieces).await.unwrap();
        };
        let reading = async {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            while let Some(line) = lines.next(&mut ours).await.unwrap() {
                got.push(line);
            }
            got
        };
        tokio::join!(writing, reading).1
    }

    #[tokio::test]
    async fn every_kind_of_line_end_ends_a_line() {
        let got = lines_of(&["가\n나\r\n다\rb\n\r\n\nc".as_bytes()]).await;
        assert_eq!(got, ["가", "나", "다", "b", "", "", "c"]);
    }
}
