//! Start-up of a service: errors of its database, and waiting for it.

use base::{StartError, backing::Backing, clock::Clock, running::Running};
use tokio_util::sync::CancellationToken;

use crate::{Db, Error, MigrateError, OpenError};

impl From<&Error> for StartError {
    fn from(error: &Error) -> Self {
        if error.is_outage() {
            Self::Outage(error.to_string())
        } else {
            Self::failed(error)
        }
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<MigrateError> for StartError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Database(error) => error.into(),
            MigrateError::Pooler(error) => Self::setting(error),
            error => Self::failed(error),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::failed(error)
    }
}

impl Backing for Db {
    async fn wait(&self, stop: &CancellationToken) -> bool {
        self.wait_until_available(stop).await
    }

    async fn check(&self) -> bool {
        self.ping().await.is_ok()
    }

    fn report(&self, clock: &Clock, running: &Running) {
        Self::report(self, running);
        self.watch_clock(clock, running);
    }
}
