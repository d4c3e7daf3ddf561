//! The counts of mails to a user, for the export of the user's data.

use base::clock::ALLOWANCE;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        mail::{code_mails, notices, outbox::Mails, purge::QUOTA_MEMORY},
    },
    model::{MailKind, User},
    store,
};

impl Mails {
    /// Returns the number of counted mails to the user's address, by sort, without sorts that have
    /// none.
    pub(in crate::domain) async fn counted(&self, conn: &mut Conn, user: &User) -> Result<Vec<(String, i64)>, Error> {
        let now = self.time.now();
        let remembered = (now.minus(QUOTA_MEMORY), now.plus(ALLOWANCE));
        let codes =
            [code_mails::COUNTED, code_mails::COUNTED_OF_ADMINISTRATORS].map(|sort| (sort.to_owned(), sort.to_owned()));
        let is_verified = user.email_verify_time.is_some();
        let notices = MailKind::ALL.map(|kind| {
            let name = if is_verified {
                format!("notice:{}", kind.as_str())
            } else {
                "notice".to_owned()
            };
            (name, notices::counted_as(kind, user))
        });
        let mut sorts: Vec<(String, String)> = codes.into_iter().chain(notices).collect();
        sorts.dedup();
        let mut counted = Vec::new();
        for (name, sort) in sorts {
            let count = store::mail_quota_used(conn, &self.counter(&sort, &user.email), remembered).await?;
            if count > 0 {
                counted.push((name, count));
            }
        }
        Ok(counted)
    }
}
