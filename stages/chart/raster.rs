//! A heatmap's cells as a palette PNG, and the values behind it, both as base64 inside the page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::colour::{LEVELS, Scale};

/// A PNG of one pixel for each value, row-major, in base64; missing values are transparent. There is at least one value,
/// and each row is full.
pub fn encode_png(values: &[f32], columns: usize, scale: Scale) -> String {
    let pixels: Vec<u8> = values.iter().map(|&value| scale.index(value as f64)).collect();
    let mut palette: Vec<u8> = scale.palette().concat();
    palette.extend([0, 0, 0]);
    let mut opacity = vec![255; LEVELS];
    opacity.push(0);

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns as u32, (values.len() / columns) as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette);
    encoder.set_trns(opacity);
    // Filters predict from neighbours, which palette indices do not resemble.
    encoder.set_filter(png::Filter::NoFilter);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels)?;
        writer.finish()
    });
    written.expect("full rows of palette indices, written to memory");
    BASE64.encode(bytes)
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
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::colour::Colours;
    use super::*;

    #[test]
    fn a_png_has_one_pixel_of_the_right_colour_for_each_value() {
        let scale = Scale::over(Colours::Cosine, []);
        let bytes = BASE64.decode(encode_png(&[-1.0, 0.0, 1.0, f32::NAN, 0.5, -0.5], 3, scale)).unwrap();
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
    }

    #[test]
    fn packed_values_keep_four_decimals() {
        let text = pack_values(&[-1.0, 0.12345, f32::NAN], (-1.0, 1.0));
        let bytes = BASE64.decode(text).unwrap();
        let steps: Vec<i16> = bytes.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        assert_eq!((steps[0], steps[2]), (-32767, i16::MIN));
        let value = (steps[1] as f64 + 32767.0) / 65534.0 * 2.0 - 1.0;
        assert!((value - 0.12345).abs() < 5e-5, "{value}");
    }
}
