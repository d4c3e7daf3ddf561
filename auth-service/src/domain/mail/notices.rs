//! Notices: mails that tell users what was done to their account. Users cannot turn them off.
//!
//! Notices to one address are limited, because the address may belong to somebody else. If the user
//! has verified it, each kind has a limit of its own, so that a flood of one kind does not suppress
//! the others. A notice with a link that undoes a change does not count: such changes are limited
//! themselves.

use base::clock::Timestamp;
use db::Conn;

use crate::{
    domain::{
        error::Error,
        mail::{
            letter::{Letter, UndoLetter},
            outbox::{MAX_PER_DAY, MAX_PER_HOUR, Mails},
        },
        request_context::RequestContext,
    },
    model::{EmailUndo, MailKind, User},
    store,
};

/// Maximum number of characters of a user agent in a mail.
const MAX_USER_AGENT_LEN: usize = 100;

/// An event that is reported to the user.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) enum Notice<'a> {
    /// The password has changed.
    PasswordChanged,
    /// The login has changed.
    LoginChanged {
        /// Login before the change.
        old: &'a str,
        /// Login after the change.
        new: &'a str,
    },
    /// The e-mail address has changed. The notice goes to the former one.
    EmailChanged {
        /// Former address, if a link in the notice undoes the change.
        undo: Option<&'a EmailUndo>,
    },
    /// Someone has logged in from a device that is not known.
    DeviceLogin,
    /// An old refresh token was used again, so its session was ended.
    RefreshTokenReused,
    /// A second factor was added.
    SecondFactorAdded,
    /// A second factor was removed, or all of them.
    SecondFactorRemoved,
    /// The recovery codes were replaced.
    RecoveryCodesRenewed,
}

impl Mails {
    /// Returns whether notices can be mailed to the user. An address that is taken belongs to
    /// another user.
    pub(in crate::domain) fn can_notify(&self, user: &User) -> bool {
        !user.email_is_taken && self.reaches(&user.email)
    }

    /// Writes a notice to the user in the transaction of its cause. Does nothing if the address
    /// cannot be reached, or has got too many notices of this kind.
    pub(in crate::domain) async fn post_notice(
        &self,
        tx: &mut Conn,
        context: &RequestContext,
        user: &User,
        notice: Notice<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !self.can_notify(user) {
            return Ok(());
        }
        let letter = notice.letter(context, user, now);
        if let Notice::EmailChanged { undo: Some(_) } = notice {
            // The number of changes that can be undone is limited, and so are these notices.
            self.post_to(tx, user.id, &user.email, &letter, &user.locale).await?;
            return Ok(());
        }
        let counter = self.counter(&counted_as(letter.kind(), user), &user.email);
        if !self.has_quota(tx, &counter, [MAX_PER_HOUR, MAX_PER_DAY]).await? {
            return Ok(());
        }
        if let Some(id) = self.post_to(tx, user.id, &user.email, &letter, &user.locale).await? {
            store::mail_quota_insert(tx, id, &counter, self.time.now()).await?;
        }
        Ok(())
    }
}

/// Returns the sort under which notices of this kind to the user are counted. If the address was
/// never verified, it may be a stranger's, so all notices to it are counted together, whoever the
/// user is.
pub(super) fn counted_as(kind: MailKind, user: &User) -> String {
    if user.email_verify_time.is_none() {
        return "notice".to_owned();
    }
    format!("notice:{}:{}", kind.as_str(), user.id)
}

impl Notice<'_> {
    fn letter(self, context: &RequestContext, user: &User, now: Timestamp) -> Letter {
        // Users who are not logged in act on their own account, with a code from a mail.
        let is_by_administrator = context.user_id().is_some_and(|actor| actor != user.id);
        // The IP address of an administrator is not shown to the user.
        let ip_address = if is_by_administrator {
            String::new()
        } else {
            context.origin.address_text()
        };
        let time = now.as_micros();
        match self {
            Self::PasswordChanged => Letter::PasswordChanged {
                time,
                ip_address,
                is_by_administrator,
            },
            Self::LoginChanged { old, new } => Letter::LoginChanged {
                old_login: old.to_owned(),
                new_login: new.to_owned(),
                time,
                ip_address,
                is_by_administrator,
            },
            Self::EmailChanged { undo } => Letter::EmailChanged {
                time,
                ip_address,
                undo: undo.map(UndoLetter::new),
                is_by_administrator,
            },
            Self::DeviceLogin => Letter::DeviceLogin {
                user_agent: without_links(&context.origin.user_agent),
                time,
                ip_address,
            },
            Self::RefreshTokenReused => Letter::RefreshTokenReused { time, ip_address },
            Self::SecondFactorAdded => Letter::SecondFactorAdded { time, ip_address },
            Self::SecondFactorRemoved => Letter::SecondFactorRemoved {
                time,
                ip_address,
                is_by_administrator,
            },
            Self::RecoveryCodesRenewed => Letter::RecoveryCodesRenewed { time, ip_address },
        }
    }
}

/// Returns the words of a user agent that cannot be taken for a link or an address. A client sends
/// what it likes as its user agent, and mail programs turn `example.com` into a link.
fn without_links(user_agent: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/+".contains(c);
    let is_link = |word: &&str| {
        let starts_host = |after: &str| after.starts_with(|c: char| c.is_ascii_alphabetic());
        word.is_empty() || word.contains("//") || word.split('.').skip(1).any(starts_host)
    };
    let words = user_agent
        .split(' ')
        .map(|word| word.trim_matches(|c| "(),;".contains(c)));
    let mut shown = String::new();
    for word in words.filter(|word| !is_link(word) && word.chars().all(is_plain)) {
        if shown.len() + word.len() >= MAX_USER_AGENT_LEN {
            break;
        }
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_shown_without_what_looks_like_a_link() {
        for (user_agent, shown) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
                "Mozilla/5.0 X11 Linux x86_64 Gecko/20100101 Firefox/120.0",
            ),
            ("grpc-go/1.60.1", "grpc-go/1.60.1"),
            ("Bot/1.0 (+https://evil.example/login)", "Bot/1.0"),
            ("call evil.example or www.evil.example/x now", "call or now"),
            ("mail me@evil <b>bold</b> \u{fffd}x", "mail"),
            ("", ""),
        ] {
            assert_eq!(without_links(user_agent), shown, "{user_agent}");
        }
        assert!(without_links(&"word ".repeat(60)).len() <= MAX_USER_AGENT_LEN);
        assert_eq!(without_links(&"x".repeat(256)), "");
    }
}
