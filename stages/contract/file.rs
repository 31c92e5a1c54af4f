//! Files of the user's that are read whole: configurations, templates, tokenizers.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of the largest configuration or template.
pub const CONFIGURATION: u64 = 64 << 20;

/// The bytes of a file.
///
/// # Errors
/// When it cannot be read, is no regular file (a pipe has no end, nor has a device), or has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A file may be larger than it says (those of /proc say 0), and may grow.
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(refused(format!("it has more than {} MB, too much for such a file", most >> 20))),
        false => Ok(bytes),
    }
}

/// # Errors
/// When it cannot be opened or is no regular file: opening a pipe waits for who writes to it.
pub fn open(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(refused(format!("it is {}, not a file", kind(&metadata))));
    }
    File::open(path)
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// As [`read`], as text.
///
/// # Errors
/// As for [`read`], and when it is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("it is no UTF-8 text: byte {at} breaks it"))
    })
}

fn kind(metadata: &std::fs::Metadata) -> &'static str {
    if metadata.is_dir() { "a folder" } else { "a pipe or a device" }
}

/// Why a path cannot be read as a file; `None` where it can.
pub fn unfit(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => None,
        Ok(metadata) => Some(format!("it is {}, not a file", kind(&metadata))),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_and_what_is_too_large_is_refused() {
        let error = |path: &str, most: u64| read(Path::new(path), most).expect_err("refused").to_string();
        assert_eq!(error("/dev/zero", 1), "it is a pipe or a device, not a file");
        assert_eq!(error("/", 1), "it is a folder, not a file");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sparse");
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file without bytes");
        assert!(read(&path, 1 << 20).expect_err("refused").to_string().contains("more than 1 MB"));
        std::fs::write(&path, b"ab\xff").expect("written");
        assert_eq!(read(&path, 3).expect("three bytes"), b"ab\xff");
        assert!(read(&path, 2).is_err());
        assert!(read_text(&path, 3).expect_err("no text").to_string().contains("byte 2 breaks it"));
    }
}
