//! Content-Type of a new object, from the name of its file.
//!
//! Deliberately does not: look into the bytes, or add a charset (other tools add none either).

/// What a file of an unknown kind has.
pub const DEFAULT: &str = "application/octet-stream";

/// What a directory marker (`dir/`) has: s3fs, rclone and the S3 console agree on it.
pub const DIRECTORY: &str = "application/x-directory";

/// The Content-Type for a file called `name` (the last component of a path), by its extension.
pub fn from_name(name: &str) -> &'static str {
    mime_guess::from_path(name).first_raw().unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides() {
        assert_eq!(from_name("a.html"), "text/html");
        assert_eq!(from_name("A.PNG"), "image/png");
        assert_eq!(from_name("notes.txt"), "text/plain");
        assert_eq!(from_name("x.tar.gz"), "application/gzip");
        assert_eq!(from_name("data.json"), "application/json");
    }

    #[test]
    fn without_a_known_extension_it_is_the_default() {
        for name in ["", "Makefile", ".bashrc", "a.", "a.no-such-extension", "..", "\0"] {
            assert_eq!(from_name(name), DEFAULT, "{name:?}");
        }
    }
}
