//! Requests about guests, read and validated.

use base::validate::{Fields, InvalidFields};
use proto::auth::v1::{LoginGuestRequest, RegisterGuestRequest, UpgradeAccountRequest};
use secrecy::SecretString;

use super::passwords;
use crate::{
    domain::{GuestLogin, MAX_TOKEN_LEN, PasswordRules, PersonName, RequestedAudience, Upgrade, ensure_not_reserved},
    mail::Locale,
};

/// Reads the language and the audience of a new guest. `accepted` is the language of the header
/// `accept-language`, for a request without one.
pub(super) fn registration(
    request: &RegisterGuestRequest,
    accepted: &Locale,
) -> Result<(Locale, RequestedAudience), InvalidFields> {
    let mut fields = Fields::new();
    let audience = fields.check("audience", request.audience.parse());
    let locale = fields.check("locale", request.locale.parse::<Locale>());
    fields.finish(|| {
        let locale = locale?;
        let locale = if locale.as_str().is_empty() {
            accepted.clone()
        } else {
            locale
        };
        Some((locale, audience?))
    })
}

pub(super) fn login(request: LoginGuestRequest) -> Result<GuestLogin, InvalidFields> {
    let mut fields = Fields::new();
    credential(&mut fields, &request.guest_credential);
    let audience = fields.check("audience", request.audience.parse());
    fields.finish(|| {
        Some(GuestLogin {
            credential: SecretString::from(request.guest_credential),
            device_token: Some(request.device_token)
                .filter(|token| token.len() <= MAX_TOKEN_LEN)
                .unwrap_or_default(),
            audience: audience?,
        })
    })
}

/// Checks that the required field `guest_credential` is set, and not longer than a credential can
/// be.
pub(super) fn credential(fields: &mut Fields, text: &str) {
    if text.is_empty() {
        fields.reject("guest_credential", "is required");
    } else if text.len() > MAX_TOKEN_LEN {
        fields.reject("guest_credential", "must be at most 128 bytes");
    }
}

pub(super) fn upgrade(request: &UpgradeAccountRequest, rules: PasswordRules) -> Result<Upgrade, InvalidFields> {
    let mut fields = Fields::new();
    let email = fields.check("email", request.email.parse());
    let login = fields.check("login", request.login.parse());
    ensure_not_reserved(&mut fields, login.as_ref(), email.as_ref());
    let password = passwords::confirmed(
        &mut fields,
        rules,
        ["password", "password_confirmation"],
        [&request.password, &request.password_confirmation],
    );
    if password
        .as_ref()
        .is_some_and(|password| password.is_login_or_email(login.as_ref(), email.as_ref()))
    {
        fields.reject("password", "must not be the login or the e-mail address");
    }
    let first_name = name(&mut fields, "first_name", &request.first_name);
    let last_name = name(&mut fields, "last_name", &request.last_name);
    let middle_name = name(&mut fields, "middle_name", &request.middle_name);
    let locale = fields.check("locale", request.locale.parse::<Locale>());
    fields.finish(|| {
        Some(Upgrade {
            email: email?,
            login: login?,
            password: password?,
            first_name,
            last_name,
            middle_name,
            locale: locale.filter(|locale| !locale.as_str().is_empty()),
        })
    })
}

/// Reads an optional name. An empty one leaves the name as it is.
fn name(fields: &mut Fields, field: &'static str, text: &str) -> Option<PersonName> {
    let name: Option<PersonName> = fields.check(field, text.parse());
    name.filter(|name| !name.as_str().is_empty())
}
