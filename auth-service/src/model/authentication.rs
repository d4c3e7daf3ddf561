//! Authentication of a session's user: its time and its methods.

use std::borrow::Cow;

use access::token::Acr;
use base::clock::Timestamp;

/// Method that stands for several factors (RFC 8176).
const SEVERAL_FACTORS: &str = "mfa";

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

    /// An ID token of another provider. There is no registered method for it, and others use this
    /// name. The methods that the provider itself names are its own claim, and are not repeated.
    pub(crate) const ID_TOKEN: Self = Self(Cow::Borrowed("fed"));

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
