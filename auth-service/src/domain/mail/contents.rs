//! Values that the templates of mails show. Codes are derived only here, when a mail is sent.

use base::clock::Timestamp;

use crate::{
    domain::{
        mail::{
            codes::Binding,
            letter::{CodeLetter, Letter},
            outbox::Mails,
        },
        users::names,
    },
    mail::{Contents, Mailer},
    model::{CodePurpose, OutboxMail},
};

impl Mails {
    /// Returns what the templates show.
    pub(super) fn contents(&self, mailer: &Mailer, mail: &OutboxMail, letter: Letter) -> Contents {
        let with_code = |code: &CodeLetter, purpose, action| self.with_code(mailer, mail, code, purpose, (action, &[]));
        let user_id: &str = &mail.user_id.to_string();
        // The page asks the user to log in, unless they are.
        let for_user = |code: &CodeLetter, purpose, action| {
            self.with_code(mailer, mail, code, purpose, (action, &[("user_id", user_id)]))
        };
        match letter {
            Letter::PasswordReset(code) | Letter::EmailReverted(code) => {
                with_code(&code, CodePurpose::PasswordReset, "reset-password")
            }
            Letter::AdministratorReset { code, is_invalidated } => Contents {
                is_invalidated,
                ..with_code(&code, CodePurpose::AdministratorReset, "reset-password")
            },
            Letter::Invitation(code) => Contents {
                // Chosen by an administrator. In mails that anybody can ask for, it would be a
                // text of a stranger.
                login: Some(code.identifier.clone()),
                ..with_code(&code, CodePurpose::Invitation, "accept-invitation")
            },
            Letter::EmailVerification(code) => for_user(&code, CodePurpose::EmailVerification, "verify-email"),
            Letter::EmailChange(code) => for_user(&code, CodePurpose::EmailChange, "confirm-email"),
            // There is no page for a link: the code belongs to a login that is under way.
            Letter::FactorEnrolment(code) => Contents {
                link: None,
                ..with_code(&code, CodePurpose::FactorEnrolment, "")
            },
            Letter::PasswordChanged {
                time,
                ip_address,
                is_by_administrator,
            }
            | Letter::SecondFactorRemoved {
                time,
                ip_address,
                is_by_administrator,
            } => Contents {
                is_by_administrator,
                ..event(time, ip_address)
            },
            Letter::RefreshTokenReused { time, ip_address }
            | Letter::SecondFactorAdded { time, ip_address }
            | Letter::RecoveryCodesRenewed { time, ip_address } => event(time, ip_address),
            Letter::LoginChanged {
                old_login,
                new_login,
                time,
                ip_address,
                is_by_administrator,
            } => Contents {
                old_login: Some(old_login),
                new_login: Some(new_login),
                is_by_administrator,
                ..event(time, ip_address)
            },
            Letter::EmailChanged {
                time,
                ip_address,
                undo,
                is_by_administrator,
            } => {
                let undo = undo.filter(|undo| self.time.now() < undo.end());
                let link = undo.as_ref().map(|undo| {
                    let key = key_of(mail);
                    let code = self
                        .codes
                        .linked(binding(mail, CodePurpose::EmailUndo, &undo.seed, &key));
                    mailer.link("revert-email", &[("user_id", user_id)], &code)
                });
                Contents {
                    minutes: undo.map(|undo| self.minutes_until(undo.end())),
                    link,
                    is_by_administrator,
                    ..event(time, ip_address)
                }
            }
            Letter::DeviceLogin {
                user_agent,
                time,
                ip_address,
            } => Contents {
                user_agent: Some(user_agent),
                ..event(time, ip_address)
            },
        }
    }

    /// Returns what a mail with a code shows. The action, what the user is called and the further
    /// values stand in its link.
    fn with_code(
        &self,
        mailer: &Mailer,
        mail: &OutboxMail,
        letter: &CodeLetter,
        purpose: CodePurpose,
        (action, further): (&str, &[(&str, &str)]),
    ) -> Contents {
        let key = key_of(mail);
        let binding = binding(mail, purpose, &letter.seed, &key);
        let mut values = vec![("identifier", letter.identifier.as_str())];
        values.extend(further);
        let link = mailer.link(action, &values, &self.codes.linked(binding));
        Contents {
            code: letter.is_typable.then(|| self.codes.typed(binding)),
            link: Some(link),
            minutes: Some(self.minutes_until(Timestamp::from_micros(letter.expire_time))),
            ..Contents::default()
        }
    }

    /// Returns the number of minutes until then, rounded up, and at least one.
    fn minutes_until(&self, end: Timestamp) -> u64 {
        end.since(self.time.now()).as_secs().div_ceil(60).max(1)
    }
}

/// Returns what every notice shows.
fn event(time: i64, ip_address: String) -> Contents {
    Contents {
        time: Some(Timestamp::from_micros(time)),
        ip_address: Some(ip_address),
        ..Contents::default()
    }
}

/// Returns the key of the address to which the mail goes.
fn key_of(mail: &OutboxMail) -> String {
    names::identifier_key(&mail.recipient)
}

const fn binding<'a>(mail: &OutboxMail, purpose: CodePurpose, seed: &'a [u8], address_key: &'a str) -> Binding<'a> {
    Binding {
        purpose,
        user_id: mail.user_id,
        address_key,
        seed,
    }
}
