//! Settings that the programs of all services have in common.

use std::path::Path;

use base::{
    StartError,
    running::Running,
    secret_files::SecretFiles,
    telemetry::{self, TelemetrySettings},
};

use super::ServerSettings;

/// Settings that all services share, apart from those of the database.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Limits of the server and its connections.
    #[command(flatten)]
    pub server: ServerSettings,
    /// Whether files with secrets may be readable by others.
    #[command(flatten)]
    pub secret_files: SecretFiles,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

impl ServiceArgs {
    /// Starts logs and traces under the name of the service. Then checks these settings and the
    /// files with secrets, each of which is given with the name of its setting.
    pub fn begin<'a>(
        &'a self,
        name: &'static str,
        secret_files: impl IntoIterator<Item = (&'static str, Option<&'a Path>)>,
    ) -> Result<(), StartError> {
        telemetry::init(&self.telemetry, name)?;
        let files = secret_files.into_iter().chain([self.server.secret_file()]);
        self.secret_files.check(files)?;
        self.server.check().map_err(StartError::setting)
    }

    /// Creates the group of tasks that stops at the first SIGTERM or Ctrl-C, with the configured
    /// grace period.
    pub fn running(&self) -> Result<Running, StartError> {
        Running::until_signal(self.server.drain_timeout())
    }
}
