//! Authentication of a session's user: its time and its methods.

use std::borrow::Cow;

use access::token::Acr;
use base::clock::Timestamp;

/// Method that stands for several factors (RFC 8176).
const SEVERAL_FACTORS: &str = "mfa";
/// Method of a one-time password (RFC 8176).
const CODE: &str = "otp";

/// Methods by which a user proves who they are (RFC 8176), separated by spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthMethods(Cow<'static, str>);

/// Time at which a user proved who they are, and the methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authentication {
    pub(crate) time: Timestamp,
    pub(crate) methods: AuthMethods,
    pub(crate) acr: Acr,
}

impl AuthMethods {
    /// A password.
    pub(crate) const PASSWORD: Self = Self(Cow::Borrowed("pwd"));
    /// The credential of a guest. Of the registered methods, `swk` fits best: a secret that
    /// software keeps on the device, and that nobody knows by heart as they would a password.
    pub(crate) const GUEST_CREDENTIAL: Self = Self(Cow::Borrowed("swk"));
    /// A password, and a code of a second factor. A recovery code is a one-time password, too.
    pub(crate) const PASSWORD_AND_CODE: Self = Self(Cow::Borrowed("pwd otp mfa"));

    /// Returns the methods of someone who has proved by these who they are, and then by a code of a
    /// second factor.
    pub(crate) fn with_code(&self) -> Self {
        let is_first = |method: &&str| ![CODE, SEVERAL_FACTORS].contains(method);
        let methods: Vec<&str> = self.iter().filter(is_first).chain([CODE, SEVERAL_FACTORS]).collect();
        Self(Cow::Owned(methods.join(" ")))
    }

    /// Reads the methods as they are stored. A later version may have stored ones that this version
    /// does not know.
    pub(crate) const fn stored(text: String) -> Self {
        Self(Cow::Owned(text))
    }

    /// Returns the methods as they are stored.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Iterates over the methods.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|method| !method.is_empty())
    }

    /// Returns the methods as a list.
    pub(crate) fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }

    fn acr(&self) -> Acr {
        if self.iter().any(|method| method == SEVERAL_FACTORS) {
            Acr::TwoFactors
        } else {
            Acr::OneFactor
        }
    }
}

impl Authentication {
    /// Returns an authentication at this time by these methods.
    pub(crate) fn new(time: Timestamp, methods: AuthMethods) -> Self {
        Self {
            time,
            acr: methods.acr(),
            methods,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_makes_two_factors_of_one() {
        let at = Timestamp::EPOCH;
        for (first, both) in [
            (AuthMethods::PASSWORD, "pwd otp mfa"),
            (AuthMethods::GUEST_CREDENTIAL, "swk otp mfa"),
            (AuthMethods::PASSWORD_AND_CODE, "pwd otp mfa"),
        ] {
            let with_code = Authentication::new(at, first.with_code());
            assert_eq!((with_code.methods.as_str(), with_code.acr), (both, Acr::TwoFactors));
        }
        assert_eq!(Authentication::new(at, AuthMethods::PASSWORD).acr, Acr::OneFactor);
    }
}
