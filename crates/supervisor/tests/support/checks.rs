//! What must hold for any bytes; shared by the fuzz targets and by the plain tests over their corpora.

use naru_domain::Timestamp;
use naru_supervisor::console::{LINE_BYTES_MAX, Masks, Ring, Source, Splitter, clean};
use naru_supervisor::keeper::words::{Lines, Request, Said, decode, encode};

/// What a game prints becomes clean lines without the secret, however it is cut into pieces.
#[allow(dead_code, reason = "each fuzz target uses one of these")]
pub(crate) fn console_lines(bytes: &[u8]) {
    const SECRET: &str = "hunter2";
    let masks = Masks::new(&[SECRET.to_owned()], &[]).expect("masks");
    let mut ring = Ring::new(16, 64 * 1024, 1);
    let mut text = String::new();
    let mut splitter = Splitter::default();
    let mut keep = |raw: &[u8]| {
        assert!(!raw.contains(&b'\n'));
        assert!(raw.len() <= 2 * LINE_BYTES_MAX);
        clean(raw, &mut text);
        masks.apply(&mut text);
        ring.push(Timestamp(0), Source::Game, &text);
    };
    // The first byte says how long the pieces are.
    let piece = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    for piece in bytes.chunks(piece) {
        splitter.feed(piece, &mut keep);
    }
    splitter.finish(&mut keep);
    for line in ring.after(0, usize::MAX) {
        assert!(!line.text.contains(SECRET));
        assert!(line.text.chars().all(|c| c == '\t' || !c.is_control()));
    }
    assert!(ring.len() <= 16 && ring.bytes() <= 64 * 1024);
}

/// What a keeper or a Naru hears is understood or refused, and what is understood can be said again.
#[allow(dead_code, reason = "each fuzz target uses one of these")]
pub(crate) fn keeper_words(bytes: &[u8]) {
    let mut lines = Lines::default();
    lines.buffer().extend_from_slice(bytes);
    while let Ok(Some(line)) = lines.next_line() {
        if let Some(request) = decode::<Request>(&line) {
            assert_eq!(decode::<Request>(&encode(&request)), Some(request));
        }
        if let Some(said) = decode::<Said>(&line) {
            assert_eq!(decode::<Said>(&encode(&said)), Some(said));
        }
    }
}
