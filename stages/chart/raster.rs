//! A heatmap's cells as a palette PNG, and base64 to carry it and the values behind it inside the page.

use anyhow::{Context, Result};

use super::colour::{ColourScale, LEVELS};

/// One pixel for each value, row-major; missing values are transparent.
///
/// # Errors
/// When `values` is empty or not a multiple of `columns`.
pub fn encode_png(values: &[f32], columns: usize, scale: ColourScale) -> Result<Vec<u8>> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    anyhow::ensure!(
        rows > 0 && rows * columns == values.len(),
        "a heatmap of {} values in {columns} columns",
        values.len()
    );
    let pixels: Vec<u8> = values.iter().map(|&value| scale.index(value as f64)).collect();
    let mut palette: Vec<u8> = scale.palette().concat();
    palette.extend([0, 0, 0]);
    let mut opacity = vec![255; LEVELS];
    opacity.push(0);

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns as u32, rows as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette);
    encoder.set_trns(opacity);
    // Filters predict from neighbours, which palette indices do not resemble.
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().context("writing a PNG header")?;
    writer.write_image_data(&pixels).context("writing a PNG")?;
    writer.finish().context("finishing a PNG")?;
    Ok(bytes)
}

/// Values as 16-bit steps of a range, little-endian in base64; -32768 stands for a missing value. The step is
/// 1/65534 of the range: 3e-5 for cosines, less than the four decimals shown.
pub fn pack_values(values: &[f32], (lo, hi): (f64, f64)) -> String {
    let span = (hi - lo).max(f64::MIN_POSITIVE);
    let bytes: Vec<u8> = values
        .iter()
        .map(|&value| match value.is_finite() {
            true => (((value as f64 - lo) / span).clamp(0.0, 1.0) * 65534.0 - 32767.0).round() as i16,
            false => i16::MIN,
        })
        .flat_map(i16::to_le_bytes)
        .collect();
    base64(&bytes)
}

/// Standard base64 with padding (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &byte)| word | (byte as u32) << (16 - 8 * i));
        for i in 0..4 {
            match i <= chunk.len() {
                true => out.push(ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char),
                false => out.push('='),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        let cases = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(cases, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn a_png_has_one_pixel_of_the_right_colour_for_each_value() {
        let scale = ColourScale::Diverging { limit: 1.0 };
        let bytes = encode_png(&[-1.0, 0.0, 1.0, f32::NAN, 0.5, -0.5], 3, scale).unwrap();
        let mut decoder = png::Decoder::new(std::io::Cursor::new(&bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (3, 2, png::ColorType::Rgba));
        assert_eq!(pixels[..4], [0x0a, 0x3d, 0x7a, 255]);
        assert_eq!(pixels[4..8], [0xf6, 0xf5, 0xf2, 255]);
        assert_eq!(pixels[8..12], [0x85, 0x3c, 0x00, 255]);
        assert_eq!(pixels[15], 0, "a missing value is transparent");
        assert!(encode_png(&[], 3, scale).is_err());
    }

    #[test]
    fn packed_values_keep_four_decimals() {
        let text = pack_values(&[-1.0, 0.12345, f32::NAN], (-1.0, 1.0));
        let bytes = decode(&text);
        let steps: Vec<i16> = bytes.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        assert_eq!((steps[0], steps[2]), (-32767, i16::MIN));
        let value = (steps[1] as f64 + 32767.0) / 65534.0 * 2.0 - 1.0;
        assert!((value - 0.12345).abs() < 5e-5, "{value}");
    }

    fn decode(text: &str) -> Vec<u8> {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bits: String =
            text.trim_end_matches('=').chars().map(|c| format!("{:06b}", alphabet.find(c).unwrap())).collect();
        (0..bits.len() / 8).map(|i| u8::from_str_radix(&bits[8 * i..8 * i + 8], 2).unwrap()).collect()
    }
}
