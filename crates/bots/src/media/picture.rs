//! Pictures made to fit: at most so wide, in a format that phones share. Blocking work over bytes that
//! may come from anywhere; the caller runs it on a blocking thread.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// What may be decoded: bounds against small files that become huge pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    /// The largest width or height, in pixels.
    pub side_max: u32,
    /// The most pixels (a phone's camera makes 12 to 50 million).
    pub pixels_max: u64,
    /// The most memory one picture may take while it is decoded, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for PictureLimits {
    fn default() -> PictureLimits {
        PictureLimits {
            side_max: 16_384,
            pixels_max: 50_000_000,
            memory_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// JPEG quality of pictures that were made smaller.
const JPEG_QUALITY: u8 = 88;

/// The picture at most `width_max` wide: PNG or JPEG. Those that fit already stay byte for byte; other
/// formats become PNG (of an animation its first frame). The error says what is wrong.
pub(super) fn fit(bytes: Bytes, width_max: u32, limits: PictureLimits) -> Result<Bytes, String> {
    let reader = ImageReader::new(Cursor::new(bytes.clone()))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let format = reader.format().ok_or("its format is not known")?;
    if !matches!(
        format,
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::WebP
    ) {
        return Err("only PNG, JPEG, GIF and WebP are taken".to_owned());
    }
    let (width, height) = reader.into_dimensions().map_err(|error| error.to_string())?;
    check_dimensions(width, height, limits)?;
    if width <= width_max && matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Ok(bytes);
    }
    let picture = decode(bytes, format, limits)?;
    let picture = if picture.width() > width_max { shrink(&picture, width_max) } else { picture };
    encode(picture, format)
}

fn check_dimensions(width: u32, height: u32, limits: PictureLimits) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 {
        return Err("it has no pixels".to_owned());
    }
    if width > limits.side_max || height > limits.side_max || pixels > limits.pixels_max {
        return Err(format!("{width}x{height} pixels are more than allowed"));
    }
    Ok(())
}

fn decode(
    bytes: Bytes,
    format: ImageFormat,
    limits: PictureLimits,
) -> Result<DynamicImage, String> {
    let mut bounds = Limits::default();
    bounds.max_image_width = Some(limits.side_max);
    bounds.max_image_height = Some(limits.side_max);
    bounds.max_alloc = Some(limits.memory_bytes_max);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    if decoder.total_bytes() > limits.memory_bytes_max {
        return Err("it takes more memory than allowed".to_owned());
    }
    // Cameras store photos lying on their side with a note to turn them; making a picture smaller
    // drops the note, so it is turned here.
    let orientation = decoder.orientation().map_err(|error| error.to_string())?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn shrink(picture: &DynamicImage, width_max: u32) -> DynamicImage {
    let height = u64::from(picture.height()) * u64::from(width_max) / u64::from(picture.width());
    let height = u32::try_from(height).unwrap_or(u32::MAX).max(1);
    picture.resize_exact(width_max, height, FilterType::CatmullRom)
}

fn encode(picture: DynamicImage, source: ImageFormat) -> Result<Bytes, String> {
    let mut out = Vec::new();
    // A photo as PNG would be ten times as large as it was.
    let encoded = if source == ImageFormat::Jpeg {
        let rgb = DynamicImage::ImageRgb8(picture.into_rgb8());
        rgb.write_with_encoder(JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY))
    } else {
        // Phones do not show 16 bits a channel, and 32-bit floats are no PNG.
        let rgba = if picture.color().has_alpha() {
            DynamicImage::ImageRgba8(picture.into_rgba8())
        } else {
            DynamicImage::ImageRgb8(picture.into_rgb8())
        };
        rgba.write_to(&mut Cursor::new(&mut out), ImageFormat::Png)
    };
    encoded.map_err(|error| error.to_string())?;
    Ok(Bytes::from(out))
}
