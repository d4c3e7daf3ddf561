//! Checks that files with secrets are not open to other users.
//!
//! Symbolic links are followed and only the mode of their target counts, because Kubernetes mounts
//! secrets as links.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::StartError;

/// Mode bits that a file with a secret must not have: any access for others, and write access for
/// its group.
const TOO_OPEN: u32 = 0o027;

/// Treatment of files with secrets that are readable by others.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct SecretFiles {
    /// Start with a warning, instead of failing, if a file with a secret is readable by other users
    /// or writable by its group. Meant for containers, where mounted files can have the modes of
    /// another machine.
    #[arg(long, env = "ALLOW_READABLE_SECRETS", help_heading = "Secrets")]
    pub allow_readable_secrets: bool,
}

impl SecretFiles {
    /// Checks these files, each given with the setting that names it. Skips a path that does not
    /// exist or is not a regular file: reading it fails later, or needs no check.
    ///
    /// # Errors
    ///
    /// Fails if any file is too open, unless that is allowed. The message names each such file and
    /// the command that restricts it.
    pub fn check<'a>(
        self,
        files: impl IntoIterator<Item = (&'static str, Option<&'a Path>)>,
    ) -> Result<(), StartError> {
        let given = files.into_iter().filter_map(|(setting, path)| Some((setting, path?)));
        let faults: Vec<String> = given
            .filter_map(|(setting, path)| Some(format!("{setting} {}", fault(path)?)))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let text = faults.join("; ");
        if self.allow_readable_secrets {
            tracing::warn!("a file with a secret is accessible to other users: {text}");
            return Ok(());
        }
        Err(StartError::Setting(text))
    }
}

/// Returns why the file is too open and which command restricts it, or `None` if the file is
/// private enough.
pub fn fault(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mode = file.mode() & 0o777;
    if mode & TOO_OPEN == 0 {
        return None;
    }
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (path, target) = (path.display(), target.display());
    Some(format!(
        "{path}: users other than its owner may read or change it (mode {mode:04o}); run `chmod g-w,o-rwx {target}`"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_secret_that_others_can_read_or_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("secret"), folder.path().join("link"));
        fs::write(&file, "hunter2").unwrap();
        symlink(&file, &link).unwrap();
        let (strict, lenient) = (
            SecretFiles::default(),
            SecretFiles {
                allow_readable_secrets: true,
            },
        );
        for (mode, is_private) in [
            (0o400, true),
            (0o600, true),
            (0o440, true),
            (0o640, true),
            (0o644, false),
            (0o604, false),
            (0o602, false),
            (0o620, false),
            (0o660, false),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            for path in [&file, &link] {
                let files = || [("--some-file", Some(path.as_path())), ("--no-file", None)];
                let checked = strict.check(files());
                assert_eq!(checked.is_ok(), is_private, "{mode:o}");
                assert!(lenient.check(files()).is_ok());
                let Err(error) = checked else { continue };
                let text = error.to_string();
                let command = format!("chmod g-w,o-rwx {}", file.canonicalize().unwrap().display());
                assert!(text.starts_with("--some-file ") && text.contains(&command), "{text}");
                assert!(matches!(error, StartError::Setting(_)));
                // The command in the message makes the file acceptable.
                fs::set_permissions(&file, fs::Permissions::from_mode(mode & !0o027)).unwrap();
                assert!(strict.check(files()).is_ok());
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        assert_eq!(fault(&folder.path().join("nothing")), None);
        assert_eq!(fault(Path::new("/dev/null")), None);
    }
}
