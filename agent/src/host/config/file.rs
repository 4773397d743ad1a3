//! The settings file: its bytes, and what can be wrong with them before anybody looks for YAML.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No settings file is longer; what is, is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: Option<u64>,
    pub(super) found: String,
    pub(super) hint: &'static str,
}

impl Unreadable {
    fn new(found: impl Into<String>, hint: &'static str) -> Self {
        Self { line: None, found: found.into(), hint }
    }
}

/// Reads a file as text.
pub(super) fn read(path: &Path) -> Result<String, Unreadable> {
    text(bytes(path)?)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::new(
            "there is no such file",
            "write one (`shoot-exposure-agent config defaults` prints every key), or name another with --config",
        ),
        io::ErrorKind::PermissionDenied => Unreadable::new("not readable", "let the agent's user read it"),
        _ => Unreadable::new(format!("not readable: {error}"), "check the path and the disk"),
    };
    // Opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(explain)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder, not a file" } else { "not a regular file" };
        return Err(Unreadable::new(found, "name the file with --config"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(explain)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unreadable::new("longer than 1 MiB", "this is not a settings file; name another with --config"));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> Result<String, Unreadable> {
    if matches!(bytes.first_chunk(), Some([0xff, 0xfe] | [0xfe, 0xff])) {
        return Err(Unreadable::new("UTF-16", "save it as UTF-8"));
    }
    let line_of = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() as u64;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let line = bytes.get(..at).map(line_of);
        return Err(Unreadable { line, ..Unreadable::new("a NUL byte", "this is not a text file, or a broken one") });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().get(..at).map(line_of);
        Unreadable { line, ..Unreadable::new("not UTF-8", "save it as UTF-8") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(bytes: &[u8]) -> (Option<u64>, String) {
        let unreadable = text(bytes.to_vec()).unwrap_err();
        (unreadable.line, unreadable.found)
    }

    #[test]
    fn what_is_no_text_is_named_with_its_line() {
        assert_eq!(complaint(b"a: 1\nb: \0"), (Some(2), "a NUL byte".to_owned()));
        assert_eq!(complaint(b"a: 1\n\nb: \xff"), (Some(3), "not UTF-8".to_owned()));
        assert_eq!(complaint(b"\xff\xfea\0"), (None, "UTF-16".to_owned()));
        assert_eq!(text(b"\xef\xbb\xbfa: 1".to_vec()).unwrap(), "\u{feff}a: 1");
    }

    #[test]
    fn files_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let found = |path: &Path| read(path).unwrap_err().found;
        assert_eq!(found(&folder.path().join("none")), "there is no such file");
        assert_eq!(found(folder.path()), "a folder, not a file");
        assert_eq!(found(Path::new("/dev/null")), "not a regular file");
        let big = folder.path().join("big");
        std::fs::write(&big, vec![b'#'; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        assert_eq!(found(&big), "longer than 1 MiB");
        std::fs::write(&big, vec![b'#'; usize::try_from(MAX_BYTES).unwrap()]).unwrap();
        assert!(read(&big).is_ok());
    }
}
