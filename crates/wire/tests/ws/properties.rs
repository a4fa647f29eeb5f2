//! Properties over generated streams: whatever a client sends, and however it is cut, comes out whole.

use bytes::Bytes;
use naru_wire::ws::{Decoder, Deflater, Incoming, MessageKind};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::ws::{
    MESSAGE_BYTES_MAX, check_ws_decode, check_ws_handshake, client_frame, cut, decode_pieces,
};

/// One message and how a client sends it.
#[derive(Clone, Debug)]
struct Sent {
    payload: Vec<u8>,
    is_text: bool,
    is_deflated: bool,
    /// Where it is cut into fragments.
    cuts: Vec<prop::sample::Index>,
    /// A ping before the last fragment.
    ping: Option<Vec<u8>>,
    mask: [u8; 4],
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(|bytes| (bytes, false)),
        ".{0,200}".prop_map(|text: String| (text.into_bytes(), true)),
        "[ab]{0,3000}".prop_map(|text: String| (text.into_bytes(), true)),
    ];
    let cuts = vec(any::<prop::sample::Index>(), 0..5);
    let ping = prop::option::of(vec(any::<u8>(), 0..=125));
    (payload, any::<bool>(), cuts, ping, any::<[u8; 4]>()).prop_map(
        |((payload, is_text), is_deflated, cuts, ping, mask)| Sent {
            payload,
            is_text,
            is_deflated,
            cuts,
            ping,
            mask,
        },
    )
}

impl Sent {
    fn write(&self, stream: &mut Vec<u8>) {
        let kind = if self.is_text { MessageKind::Text } else { MessageKind::Binary };
        let mut first = if self.is_text { 0x01 } else { 0x02 };
        let payload = if self.is_deflated {
            first |= 0x40;
            let frame = Deflater::new(6, 15).encode(kind, &self.payload);
            let header_bytes = [2, 4, 10][usize::from(frame[1].saturating_sub(125)).min(2)];
            frame[header_bytes..].to_vec()
        } else {
            self.payload.clone()
        };
        let mut ends: Vec<usize> = self.cuts.iter().map(|at| at.index(payload.len() + 1)).collect();
        ends.push(payload.len());
        ends.sort_unstable();
        let mut from = 0;
        for (index, &end) in ends.iter().enumerate() {
            let is_last = index + 1 == ends.len();
            if let Some(ping) = self.ping.as_ref().filter(|_ping| is_last) {
                stream.extend(client_frame(0x89, self.mask, ping));
            }
            let opcode = if index == 0 { first } else { 0 };
            let fin = if is_last { 0x80 } else { 0 };
            stream.extend(client_frame(fin | opcode, self.mask, &payload[from..end]));
            from = end;
        }
    }

    fn heard(&self) -> impl Iterator<Item = Incoming> {
        let kind = if self.is_text { MessageKind::Text } else { MessageKind::Binary };
        let ping = self.ping.clone().map(|payload| Incoming::Ping(Bytes::from(payload)));
        let data = Bytes::copy_from_slice(&self.payload);
        ping.into_iter().chain([Incoming::Message { kind, data }])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_sends_comes_out_however_it_is_cut(
        messages in vec(sent(), 0..6),
        lengths in vec(any::<u8>(), 0..8),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            message.write(&mut stream);
        }
        let expected: Vec<Incoming> = messages.iter().flat_map(Sent::heard).collect();
        let decoder = Decoder::new(MESSAGE_BYTES_MAX, true);
        let (heard, error) = decode_pieces(decoder, cut(&stream, &lengths));
        prop_assert_eq!(error, None);
        prop_assert_eq!(heard, expected);
    }

    #[test]
    fn any_bytes_give_the_same_in_any_pieces(data in vec(any::<u8>(), 0..600)) {
        check_ws_decode(&data);
    }

    #[test]
    fn a_stream_with_one_byte_changed_gives_the_same_in_any_pieces(
        messages in vec(sent(), 1..4),
        head in any::<[u8; 5]>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut data = head.to_vec();
        for message in &messages {
            message.write(&mut data);
        }
        let at = at.index(data.len());
        data[at] = byte;
        check_ws_decode(&data);
    }

    #[test]
    fn only_what_was_offered_is_accepted(
        words in vec(prop::sample::select(vec![
            "permessage-deflate", "server_max_window_bits", "client_max_window_bits", "=", ";", ",",
            " ", "\"", "\\", "15", "8", "10", "\n", "v12.stomp", "server_no_context_takeover",
        ]), 0..30),
    ) {
        check_ws_handshake(words.concat().as_bytes());
    }
}
