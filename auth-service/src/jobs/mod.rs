//! Background jobs of auth-service.
//!
//! A job calls one use case of the domain periodically. To add one, write a method in the domain,
//! add a field to [`Jobs`] and start it in [`Jobs::spawn`].

use std::{convert::Infallible, time::Duration};

use base::{clock::Clock, running::Running};
use db::Db;
use futures_util::FutureExt as _;

use crate::domain::{Accounts, Attempts, AuditLog, FeedTail, KeyRing, Mails, Sessions, recheck_stale_name_keys};

/// Interval at which the signing keys are checked and due steps are taken.
const KEYS: Duration = Duration::from_secs(5);
/// Interval at which expired data is deleted.
const PURGE: Duration = Duration::from_mins(10);

/// Interval at which the keys of e-mail addresses are recomputed that replicas of an older version
/// write during an upgrade.
const STALE_KEYS: Duration = Duration::from_mins(1);

/// Interval at which requests for mails are answered and mails are sent.
const MAILS: Duration = Duration::from_secs(1);

/// Number of mails that one replica sends at the same time.
const MAILS_AT_ONCE: usize = 8;

/// Interval at which metrics are updated that have to be counted in the database.
const REPORT: Duration = Duration::from_secs(30);

/// The parts that the jobs work on.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    pub(crate) keys: KeyRing,
    pub(crate) feed: FeedTail,
    pub(crate) attempts: Attempts,
    pub(crate) audit_log: AuditLog,
    pub(crate) accounts: Accounts,
    pub(crate) mails: Mails,
    pub(crate) sessions: Sessions,
    pub(crate) db: Db,
    /// Clock that measures the intervals of the purges.
    pub(crate) clock: Clock,
}

impl Jobs {
    /// Starts all jobs. They stop with the service.
    pub(crate) fn spawn(self, running: &Running) {
        let keys = self.keys.clone();
        let follower = keys.clone();
        running.follow("signing keys in use", async move { follower.follow().await });
        running.every(KEYS, "signing keys", move || {
            let keys = keys.clone();
            async move { keys.advance().await }.boxed()
        });
        let feed = self.feed;
        running.every_by(&self.clock, PURGE, "access feed purge", move || {
            let feed = feed.clone();
            async move { feed.purge().await }.boxed()
        });
        let attempts = self.attempts;
        running.every_by(&self.clock, PURGE, "attempts purge", move || {
            let attempts = attempts.clone();
            async move { attempts.purge().await }.boxed()
        });
        let mails = self.mails.clone();
        running.every(MAILS, "mail requests", move || {
            let mails = mails.clone();
            async move { mails.answer_requests().await }.boxed()
        });
        for _ in 0..MAILS_AT_ONCE {
            running.spawn("mails", send_mails(self.mails.clone(), running.clone()));
        }
        let mails = self.mails.clone();
        running.every(REPORT, "mail count", move || {
            let mails = mails.clone();
            async move { mails.report().await }.boxed()
        });
        let mails = self.mails;
        running.every_by(&self.clock, PURGE, "mail purge", move || {
            let mails = mails.clone();
            async move { mails.purge().await }.boxed()
        });
        let audit_log = self.audit_log;
        running.every_by(&self.clock, PURGE, "audit log purge", move || {
            let audit_log = audit_log.clone();
            async move { audit_log.purge().await }.boxed()
        });
        let accounts = self.accounts.clone();
        running.every_by(&self.clock, PURGE, "second factors", move || {
            let accounts = accounts.clone();
            async move {
                accounts.reseal_factors().await?;
                accounts.purge_factors().await
            }
            .boxed()
        });
        let accounts = self.accounts;
        running.every_by(&self.clock, PURGE, "idle guests", move || {
            let accounts = accounts.clone();
            async move { accounts.delete_idle_guests().await }.boxed()
        });
        let (db, clock) = (self.db, self.clock.clone());
        running.every_by(&self.clock, STALE_KEYS, "keys of e-mail addresses", move || {
            let (db, clock) = (db.clone(), clock.clone());
            async move { recheck_stale_name_keys(&db, &clock).await }.boxed()
        });
        let sessions = self.sessions.clone();
        running.every(REPORT, "session count", move || {
            let sessions = sessions.clone();
            async move { sessions.report().await }.boxed()
        });
        let sessions = self.sessions;
        running.every_by(&self.clock, PURGE, "session purge", move || {
            let sessions = sessions.clone();
            async move {
                sessions.end_expired().await?;
                sessions.purge().await.map(drop)
            }
            .boxed()
        });
    }
}

/// Sends the mails that are due, one after the other. When the service stops, an attempt that has
/// begun is completed if the drain leaves enough time, so that nobody has to wait until another
/// replica may try.
async fn send_mails(mails: Mails, running: Running) -> Result<(), Infallible> {
    let stop = running.stop_token();
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(running.drain()).await;
    };
    let send = async {
        while stop.run_until_cancelled(tokio::time::sleep(MAILS)).await.is_some() {
            while !stop.is_cancelled() {
                match mails.send_next().await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot send mails; trying again later");
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = too_late => {}
    }
    Ok(())
}
