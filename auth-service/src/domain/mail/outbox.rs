//! The outbox: mails that wait to be sent.
//!
//! A mail is written in the transaction of its cause. Each mail is sent by one replica at a time.
//! If that replica dies, another one tries again once its lease has ended. The mail server may have
//! accepted the first attempt, so a user may get a mail twice, with the same `Message-ID`.
//!
//! Times in the table are the database's ([`DatabaseTime`]), which all replicas share.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base::{
    clock::{ALLOWANCE, Clock, Settled, Timestamp},
    ids::UserId,
};
use db::{Conn, DatabaseTime, Db, write_tx};
use uuid::Uuid;

use crate::{
    domain::{
        counts,
        error::Error,
        keys::{
            sealing_keys::SealingKeys,
            secret::{Purpose, ServerSecrets},
        },
        mail::{codes::AccountCodes, letter::Letter},
        sessions::known_devices::KnownDevices,
        users::names,
    },
    ids::MailId,
    mail::{MailError, Mailer},
    model::OutboxMail,
    store,
};

/// How long other replicas leave a mail to the one that has taken it.
const LEASE: Duration = Duration::from_secs(90);
/// How long one attempt may take. Shorter than the lease, so that no mail is sent twice at once.
const ATTEMPT: Duration = Duration::from_secs(45);
/// Pause after the first failed attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Time after which a mail that could not be sent is given up.
const GIVE_UP: Duration = Duration::from_hours(24);
/// Number of attempts after which a mail is given up, whatever the time. In 24 hours there are
/// fewer.
const MAX_ATTEMPTS: i64 = 100;
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Maximum number of mails of one sort to one address in an hour.
pub(super) const MAX_PER_HOUR: i64 = 5;
/// Maximum number of mails of one sort to one address in a day.
pub(super) const MAX_PER_DAY: i64 = 20;
/// Largest number of waiting mails that the metric shows.
const MAX_REPORTED: i64 = 100_000;

/// Mails to users.
#[derive(Clone, Debug)]
pub(crate) struct Mails {
    pub(in crate::domain) db: Db,
    pub(in crate::domain) clock: Clock,
    pub(in crate::domain) time: Arc<DatabaseTime>,
    pub(in crate::domain) codes: AccountCodes,
    /// Keys that encrypt stored requests for mails.
    pub(in crate::domain) requests: SealingKeys,
    /// Key under which mails to an address are counted.
    pub(in crate::domain) quota: Key,
    pub(in crate::domain) devices: KnownDevices,
    /// Sends mails. `None` if this deployment cannot.
    pub(in crate::domain) mailer: Option<Arc<Mailer>>,
}

impl Mails {
    pub(crate) fn new(devices: KnownDevices, clock: Clock, secrets: &ServerSecrets, mailer: Option<Mailer>) -> Self {
        let db = devices.db.clone();
        Self {
            time: Arc::new(DatabaseTime::new(db.clone(), clock.clone())),
            codes: AccountCodes::new(secrets),
            requests: SealingKeys::new(secrets, Purpose::MailRequests),
            // Only the current secret is used. Counts made with an older one are lost.
            quota: Key::new(HMAC_SHA256, &secrets.derive(Purpose::MailQuota)[0]),
            devices,
            mailer: mailer.map(Arc::new),
            db,
            clock,
        }
    }

    /// Writes a mail to a user in the transaction of its cause. `email` is the address as the user
    /// entered it, and `locale` the language. Returns the id of the mail, or `None` if the address
    /// cannot be reached.
    pub(super) async fn post_to(
        &self,
        tx: &mut Conn,
        user_id: UserId,
        email: &str,
        letter: &Letter,
        locale: &str,
    ) -> Result<Option<MailId>, Error> {
        if !self.reaches(email) {
            return Ok(None);
        }
        // Random, because the recipient sees it. A time in it would tell how long the mails before
        // it took to write, and with that whether they were for users who exist.
        let id = MailId::from_uuid(Uuid::new_v4());
        let mail = OutboxMail {
            id,
            user_id,
            kind: letter.kind(),
            recipient: names::mail_address(email),
            locale: locale.to_owned(),
            content: serde_json::to_string(letter).map_err(|error| Error::Internal(error.to_string()))?,
            attempts: 0,
            create_time: self.time.now(),
            // Due at once by every clock.
            attempt_time: Timestamp::EPOCH,
        };
        store::mail_insert(tx, &mail).await?;
        Ok(Some(id))
    }

    /// Returns the key under which mails of one sort to an address are counted.
    pub(super) fn counter(&self, sort: &str, email: &str) -> Vec<u8> {
        let text = format!("{sort}:{}", names::identifier_key(email));
        hmac::sign(&self.quota, text.as_bytes()).as_ref().to_vec()
    }

    /// Returns whether fewer mails than these limits were counted in the last hour and the last
    /// day.
    pub(super) async fn has_quota(
        &self,
        tx: &mut Conn,
        counter: &[u8],
        [per_hour, per_day]: [i64; 2],
    ) -> Result<bool, Error> {
        let now = self.time.now();
        // A count from the future was made by a clock that was wrong.
        let until = now.plus(ALLOWANCE);
        Ok(
            store::mail_quota_used(tx, counter, (now.minus(HOUR), until)).await? < per_hour
                && store::mail_quota_used(tx, counter, (now.minus(DAY), until)).await? < per_day,
        )
    }

    /// Makes one attempt to send the mail that has been due for longest. Returns false if none is
    /// due. Several jobs call this, so that the others go on while one waits for the mail server.
    pub(crate) async fn send_next(&self) -> Result<bool, Error> {
        let Some(mailer) = &self.mailer else {
            return Ok(false);
        };
        self.time.refresh().await?;
        // Taken only when its attempt begins, so that the lease does not end before the attempt.
        let Some(mail) = self.claim().await? else {
            return Ok(false);
        };
        self.try_to_send(mailer, &mail).await?;
        Ok(true)
    }

    /// Updates the metric of mails that wait.
    pub(crate) async fn report(&self) -> Result<(), Error> {
        let waiting = store::mails_count(&mut self.db.read().await?, MAX_REPORTED).await?;
        counts::mails_waiting(waiting);
        Ok(())
    }

    /// Takes the mail that has been due for longest.
    async fn claim(&self) -> Result<Option<OutboxMail>, Error> {
        // Most of the time there is none, and no transaction is needed to see that.
        let due = |now: Timestamp| (now, now.plus(LONGEST_PAUSE).plus(LEASE));
        if !store::mail_is_due(&mut self.db.read().await?, due(self.time.now())).await? {
            return Ok(None);
        }
        write_tx!(self.db, |tx| {
            let now = self.time.now();
            Ok(store::mail_claim(tx, due(now), now.plus(LEASE)).await?)
        })
    }

    async fn try_to_send(&self, mailer: &Mailer, mail: &OutboxMail) -> Result<(), Error> {
        let past = self.db.settled(&self.clock).await?.map(Settled::past);
        let letter: Result<Letter, _> = serde_json::from_str(&mail.content);
        let end = letter.as_ref().ok().and_then(Letter::end);
        if past.zip(end).is_some_and(|(past, end)| past > end) {
            counts::mail(mail.kind, "expired");
            // It was never sent, so it does not count for the limits.
            return write_tx!(self.db, |tx| {
                store::mail_quota_delete(tx, &[mail.id]).await?;
                Ok(store::mail_delete(tx, mail).await?)
            });
        }
        let sent = async {
            let letter = letter.map_err(|error| MailError::Message(format!("its content is corrupt: {error}")))?;
            let contents = self.contents(mailer, mail, letter);
            let sent = tokio::time::timeout(ATTEMPT, mailer.send(mail, &contents)).await;
            sent.unwrap_or(Err(MailError::TimedOut))
        };
        let Err(error) = sent.await else {
            counts::mail(mail.kind, "sent");
            return write_tx!(self.db, |tx| Ok(store::mail_delete(tx, mail).await?));
        };
        let is_old = past.is_some_and(|past| past > mail.create_time.plus(GIVE_UP));
        if is_old || mail.attempts >= MAX_ATTEMPTS {
            counts::mail(mail.kind, "given_up");
            tracing::error!(%error, mail_id = %mail.id, user_id = %mail.user_id, kind = mail.kind.as_str(), "gave up \
                on a mail that could not be sent for 24 hours or in 100 attempts");
            return write_tx!(self.db, |tx| Ok(store::mail_delete(tx, mail).await?));
        }
        counts::mail(mail.kind, "failed");
        tracing::warn!(%error, mail_id = %mail.id, kind = mail.kind.as_str(), attempts = mail.attempts, "cannot send \
            a mail; trying again later");
        // A refusal that the mail server calls permanent is tried again as well, because its cause
        // may be a mistake in the settings of either side.
        let next = self.time.now().plus(pause_after(mail.attempts));
        write_tx!(self.db, |tx| Ok(store::mail_postpone(tx, mail, next).await?))
    }
}

/// Returns the pause after this number of attempts: one second after the first, then twice as long
/// each time, up to an hour.
fn pause_after(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 20)).unwrap_or(0);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_an_hour() {
        let seconds: Vec<u64> = (0..15).map(|attempts| pause_after(attempts).as_secs()).collect();
        assert_eq!(
            seconds,
            [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]
        );
        assert_eq!(pause_after(i64::MAX), LONGEST_PAUSE);
    }
}
