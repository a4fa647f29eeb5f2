//! Replies made ready: what each dialect takes, bounds, and pictures that are none.

use std::io::Cursor;

use image::{DynamicImage, GenericImageView, ImageFormat, RgbImage, RgbaImage};
use proptest::prelude::*;

use super::*;

/// Links that this one knows give pictures; the others fail.
struct Shelf(Vec<(&'static str, Bytes)>);

#[async_trait]
impl MediaFetch for Shelf {
    async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        self.0
            .iter()
            .find(|(link, _)| *link == url)
            .map(|(_, bytes)| bytes.clone())
            .ok_or(FetchError { reason: "status 404".to_owned(), may_retry: false })
    }
}

fn kitchen() -> MediaKitchen {
    kitchen_with(MediaOptions::default())
}

fn kitchen_with(options: MediaOptions) -> MediaKitchen {
    let shelf = Shelf(vec![("https://a.example/1.png", png(50, 40))]);
    MediaKitchen::new(options, Arc::new(shelf))
}

fn encoded(width: u32, height: u32, format: ImageFormat) -> Bytes {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x % 251) as u8, (y % 241) as u8, ((x * y) % 239) as u8])
    });
    let mut out = Vec::new();
    DynamicImage::ImageRgb8(picture)
        .write_to(&mut Cursor::new(&mut out), format)
        .expect("an encodable picture");
    Bytes::from(out)
}

fn png(width: u32, height: u32) -> Bytes {
    encoded(width, height, ImageFormat::Png)
}

fn images(items: Vec<MediaItem>) -> ReplyBody {
    ReplyBody::Media { kind: MediaKind::Image, items, wait: None }
}

fn link(url: &str) -> MediaItem {
    MediaItem::Link(url.into())
}

async fn prepare_one(bytes: Bytes) -> Result<Bytes, MediaError> {
    let body = images(vec![MediaItem::Bytes(bytes)]);
    let ready = kitchen().prepare(body, Some(Dialect::Raw)).await?;
    match ready.into_iter().next() {
        Some(ReplyBody::Media { items, .. }) => match items.into_iter().next() {
            Some(MediaItem::Bytes(bytes)) => Ok(bytes),
            other => panic!("not bytes: {other:?}"),
        },
        other => panic!("not media: {other:?}"),
    }
}

#[tokio::test]
async fn pictures_that_fit_stay_byte_for_byte() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let bytes = encoded(900, 20, format);
        assert_eq!(prepare_one(bytes.clone()).await.unwrap(), bytes, "{format:?}");
    }
}

#[tokio::test]
async fn wide_pictures_become_900_wide_and_keep_their_shape_and_format() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let small = prepare_one(encoded(1800, 60, format)).await.unwrap();
        assert_eq!(image::guess_format(&small).unwrap(), format);
        assert_eq!(image::load_from_memory(&small).unwrap().dimensions(), (900, 30));
    }
    let flat = prepare_one(png(5000, 1)).await.unwrap();
    assert_eq!(image::load_from_memory(&flat).unwrap().dimensions(), (900, 1));
}

#[tokio::test]
async fn gif_and_webp_become_png() {
    for format in [ImageFormat::Gif, ImageFormat::WebP] {
        let picture = prepare_one(encoded(30, 20, format)).await.unwrap();
        assert_eq!(image::guess_format(&picture).unwrap(), ImageFormat::Png);
        assert_eq!(image::load_from_memory(&picture).unwrap().dimensions(), (30, 20));
    }
}

#[tokio::test]
async fn what_is_transparent_stays_transparent() {
    let clear = RgbaImage::from_pixel(1200, 10, image::Rgba([1, 2, 3, 0]));
    let mut out = Vec::new();
    clear.write_to(&mut Cursor::new(&mut out), ImageFormat::Png).unwrap();
    let small = prepare_one(Bytes::from(out)).await.unwrap();
    let small = image::load_from_memory(&small).unwrap();
    assert!(small.color().has_alpha());
    assert_eq!(small.get_pixel(5, 5)[3], 0);
}

#[tokio::test]
async fn what_is_no_picture_is_refused_with_its_index() {
    for bytes in [&b"hello"[..], b"", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"] {
        let error = prepare_one(Bytes::from_static(bytes)).await.unwrap_err();
        assert!(matches!(error, MediaError::NotAPicture { index: 0, .. }), "{error}");
    }
    let mut cut = png(1000, 100).to_vec();
    cut.truncate(cut.len() / 2);
    let error = prepare_one(Bytes::from(cut)).await.unwrap_err();
    assert!(matches!(error, MediaError::NotAPicture { .. }), "{error}");
}

/// A PNG whose header claims `width` × `height`, with a correct checksum.
fn png_claiming(width: u32, height: u32) -> Bytes {
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            })
        })
    }
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    out.extend(13_u32.to_be_bytes());
    out.extend(&header);
    out.extend(crc(&header).to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(b"IDAT");
    out.extend(crc(b"IDAT").to_be_bytes());
    Bytes::from(out)
}

#[tokio::test]
async fn decompression_bombs_are_refused_by_their_header() {
    for (width, height) in [(60_000, 60_000), (16_385, 1), (1, 16_385), (10_000, 10_000)] {
        let error = prepare_one(png_claiming(width, height)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("more than allowed"), "{width}x{height}: {text}");
    }
}

#[tokio::test]
async fn text_passes_as_it_is() {
    let text = ReplyBody::Text("안녕".into());
    let ready = kitchen().prepare(text.clone(), None).await.unwrap();
    assert_eq!(ready, vec![text]);
}

#[tokio::test]
async fn links_stay_links_for_older_phones_and_become_bytes_for_all_others() {
    let body = || images(vec![link("https://a.example/1.png")]);
    let ready = kitchen().prepare(body(), Some(Dialect::Json)).await.unwrap();
    assert_eq!(ready, vec![body()]);
    for dialect in [Some(Dialect::Raw), Some(Dialect::Typed), None] {
        let ready = kitchen().prepare(body(), dialect).await.unwrap();
        assert_eq!(ready, vec![images(vec![MediaItem::Bytes(png(50, 40))])], "{dialect:?}");
    }
    let lost = images(vec![link("https://a.example/1.png"), link("https://a.example/2.png")]);
    let error = kitchen().prepare(lost, Some(Dialect::Raw)).await.unwrap_err();
    assert_eq!(error.to_string(), "item 1 could not be fetched: status 404");
}

#[tokio::test]
async fn sound_films_and_documents_go_by_link_to_older_phones_only() {
    for kind in [MediaKind::Audio, MediaKind::Video, MediaKind::Document] {
        let by_link = || ReplyBody::Media {
            kind,
            items: vec![link("https://a.example/file")],
            wait: Some(Duration::from_secs(1)),
        };
        let by_bytes =
            ReplyBody::Media { kind, items: vec![MediaItem::Bytes(png(1, 1))], wait: None };
        let ready = kitchen().prepare(by_link(), Some(Dialect::Json)).await.unwrap();
        assert_eq!(ready, vec![by_link()]);
        let error = kitchen().prepare(by_link(), Some(Dialect::Raw)).await.unwrap_err();
        assert!(matches!(error, MediaError::NotForThisPhone { .. }), "{error}");
        let error = kitchen().prepare(by_bytes, Some(Dialect::Json)).await.unwrap_err();
        assert!(error.to_string().contains("web server"), "{error}");
    }
}

#[tokio::test]
async fn bounds_of_a_reply_hold() {
    let check = async |items: Vec<MediaItem>, expected: &str| {
        let error = kitchen().prepare(images(items), Some(Dialect::Json)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(vec![], "no items").await;
    check(vec![link("https://a.example/1.png"); 31], "31 items").await;
    let half = MediaItem::Bytes(Bytes::from(vec![0; REPLY_MEDIA_BYTES_MAX / 2 + 1]));
    check(vec![half.clone(), half], "bytes of media").await;
}

#[tokio::test]
async fn large_sets_are_split_in_order_and_a_given_wait_stays() {
    let items: Vec<MediaItem> = (1..=23).map(|n| MediaItem::Bytes(png(n, 1))).collect();
    let wait = Some(Duration::from_millis(1234));
    let body = ReplyBody::Media { kind: MediaKind::Image, items: items.clone(), wait };
    let ready = kitchen().prepare(body, Some(Dialect::Raw)).await.unwrap();
    let mut seen = Vec::new();
    let mut sizes = Vec::new();
    for reply in ready {
        let ReplyBody::Media { items, wait: given, .. } = reply else { panic!("text") };
        assert_eq!(given, wait);
        sizes.push(items.len());
        seen.extend(items);
    }
    assert_eq!(sizes, [10, 10, 3]);
    assert_eq!(seen, items);
}

#[tokio::test]
async fn the_typed_dialect_gets_one_picture_a_reply() {
    let items = vec![MediaItem::Bytes(png(1, 1)), MediaItem::Bytes(png(2, 1))];
    let ready = kitchen().prepare(images(items), Some(Dialect::Typed)).await.unwrap();
    assert_eq!(ready.len(), 2);
}

#[tokio::test]
async fn the_phone_computes_the_wait_unless_its_formula_is_too_short() {
    let film = || ReplyBody::Media {
        kind: MediaKind::Video,
        items: vec![link("https://a.example/v.mp4")],
        wait: None,
    };
    let wait_of = async |options: MediaOptions| {
        let ready = kitchen_with(options).prepare(film(), Some(Dialect::Json)).await.unwrap();
        match &ready[0] {
            ReplyBody::Media { wait, .. } => *wait,
            ReplyBody::Text(_) => panic!("text"),
        }
    };
    assert_eq!(wait_of(MediaOptions::default()).await, Some(Duration::from_secs(15)));
    let by_phone = MediaOptions { wait: WaitPolicy::Phone, ..MediaOptions::default() };
    assert_eq!(wait_of(by_phone).await, None);
}

fn items() -> impl Strategy<Value = Vec<MediaItem>> {
    let item = prop_oneof![
        3 => (0_usize..2_000).prop_map(|len| MediaItem::Bytes(Bytes::from(vec![0; len]))),
        1 => "[a-z]{1,40}".prop_map(|link| MediaItem::Link(link.into())),
    ];
    proptest::collection::vec(item, 0..40)
}

proptest! {
    #[test]
    fn splitting_keeps_all_items_in_order_within_the_bounds(
        items in items(),
        items_max in 1_usize..12,
        bytes_max in 100_usize..5_000,
    ) {
        let groups = split(items.clone(), items_max, bytes_max);
        prop_assert_eq!(groups.concat(), items);
        for group in &groups {
            prop_assert!(!group.is_empty() && group.len() <= items_max);
            let bytes: usize = group.iter().map(frame_bytes).sum();
            prop_assert!(bytes <= bytes_max || group.len() == 1);
            let links = group.iter().filter(|item| matches!(item, MediaItem::Link(_))).count();
            prop_assert!(links == 0 || links == group.len());
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for head in [&b""[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"RIFF\x10\x00\x00\x00WEBPVP8 "] {
            let whole: Vec<u8> = head.iter().chain(&bytes).copied().collect();
            drop(picture::fit(Bytes::from(whole), 900, PictureLimits::default()));
        }
    }
}
