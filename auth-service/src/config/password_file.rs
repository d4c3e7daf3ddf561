//! Files that hold one password.

use std::{fs, io, path::Path};

use secrecy::{ExposeSecret as _, SecretString};

/// Reads a password from a file, without the line break at its end.
pub(crate) fn read_password(path: &Path) -> io::Result<SecretString> {
    let text = SecretString::from(fs::read_to_string(path)?);
    Ok(SecretString::from(without_final_newline(text.expose_secret())))
}

/// Removes the line break that an editor or a shell leaves at the end of a text.
pub(crate) fn without_final_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
