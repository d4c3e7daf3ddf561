//! Time-based one-time passwords (TOTP, RFC 6238), as all authenticator apps know them: SHA-1, six
//! digits, steps of 30 seconds, and a tolerance of one step on each side.

use aws_lc_rs::rand;
use base::clock::Timestamp;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use totp_rs::{Builder, Totp};

use crate::{
    domain::{
        error::Error,
        keys::{
            sealing_keys::SealingKeys,
            secret::{Purpose, ServerSecrets},
        },
    },
    ids::FactorId,
};

/// Number of random bytes of a secret (RFC 4226, section 4).
const SECRET_BYTES: usize = 20;
/// Number of digits of a code.
pub(crate) const DIGITS: usize = 6;

/// Makes the secrets of authenticator apps, and encrypts them.
#[derive(Clone, Debug)]
pub(crate) struct TotpSecrets {
    keys: SealingKeys,
    /// Name under which an app shows the account.
    issuer: String,
}

/// The secret of an authenticator app.
#[derive(Debug)]
pub(in crate::domain) struct TotpSecret(SecretSlice<u8>);

/// Values with which an authenticator app is set up.
#[derive(Debug)]
pub(crate) struct TotpSetup {
    /// Secret in base32, for a user who types it.
    pub(crate) secret: SecretString,
    /// URI with the secret, for a QR code.
    pub(crate) uri: SecretString,
}

impl TotpSecrets {
    /// Creates the secrets of accounts that apps show under this name.
    pub(crate) fn new(secrets: &ServerSecrets, issuer: &str) -> Self {
        Self {
            keys: SealingKeys::new(secrets, Purpose::TotpSecrets),
            // A colon separates it from the account.
            issuer: issuer.replace(':', " "),
        }
    }

    /// Returns whether secrets may be under a key other than the current one.
    pub(in crate::domain) const fn has_previous_key(&self) -> bool {
        self.keys.has_previous()
    }

    /// Returns a new random secret.
    pub(in crate::domain) fn generate() -> TotpSecret {
        let mut secret = vec![0; SECRET_BYTES];
        rand::fill(&mut secret).expect("the operating system gives random bytes");
        TotpSecret(SecretSlice::from(secret))
    }

    /// Encrypts the secret of this factor.
    pub(in crate::domain) fn seal(&self, id: FactorId, secret: &TotpSecret) -> Result<Vec<u8>, Error> {
        let sealed = self.keys.seal(&name(id), secret.0.expose_secret());
        sealed.ok_or_else(|| Error::Internal("cannot encrypt the secret of a factor".to_owned()))
    }

    /// Decrypts the secret of this factor. Also returns whether it is under the current key.
    pub(in crate::domain) fn open(&self, id: FactorId, sealed: &[u8]) -> Option<(TotpSecret, bool)> {
        let (secret, is_current) = self.keys.open(&name(id), sealed)?;
        Some((TotpSecret(SecretSlice::from(secret)), is_current))
    }

    /// Returns what an app needs to show codes of this secret for this login.
    pub(in crate::domain) fn setup(&self, secret: &TotpSecret, login: &str) -> Result<TotpSetup, Error> {
        let totp = secret.totp(|builder| builder.with_issuer(Some(self.issuer.as_str())).with_account_name(login))?;
        let uri = totp.to_url().map_err(internal)?;
        Ok(TotpSetup {
            secret: SecretString::from(totp.secret().to_base32()),
            uri: SecretString::from(uri),
        })
    }
}

impl TotpSecret {
    /// Returns the time step of the code, if the app shows it now or in one of the steps beside.
    pub(in crate::domain) fn step_of(&self, code: &SecretString, now: Timestamp) -> Result<Option<i64>, Error> {
        let seconds = u64::try_from(now.as_seconds()).unwrap_or(0);
        let step = self.totp(|builder| builder)?.check(code.expose_secret(), seconds);
        Ok(step.and_then(|step| i64::try_from(step).ok()))
    }

    fn totp(&self, with: impl FnOnce(Builder) -> Builder) -> Result<Totp, Error> {
        let builder = Builder::new().with_secret(self.0.expose_secret());
        with(builder).build().map_err(internal)
    }
}

/// Name under which the secret of a factor is encrypted, so that no factor can pass for another.
fn name(id: FactorId) -> Vec<u8> {
    [b"totp ".as_slice(), id.as_uuid().as_bytes()].concat()
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("cannot make one-time passwords: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Secret of the test vectors in RFC 6238, appendix B.
    const RFC_SECRET: &[u8] = b"12345678901234567890";

    fn secrets(text: &str) -> TotpSecrets {
        TotpSecrets::new(&text.parse().expect("secrets"), "games.example")
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = TotpSecret(SecretSlice::from(RFC_SECRET.to_vec()));
        // The last six of the eight digits in the standard.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            let code = SecretString::from(code);
            let step = i64::try_from(seconds / 30).expect("a step");
            for now in [seconds, seconds + 30] {
                assert_eq!(secret.step_of(&code, at(now)).expect("checked"), Some(step), "{now}");
            }
            for now in [seconds + 60, seconds.saturating_sub(60)] {
                if now.abs_diff(seconds) == 60 {
                    assert_ne!(secret.step_of(&code, at(now)).expect("checked"), Some(step), "{now}");
                }
            }
        }
        for wrong in ["", "28708", "2870821", "287083", "28708a"] {
            let step = secret.step_of(&SecretString::from(wrong), at(59)).expect("checked");
            assert_eq!(step, None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_encrypted_for_its_factor_alone_and_survives_a_new_server_secret() {
        let (old, new) = (ServerSecrets::generate(), ServerSecrets::generate());
        let before = secrets(old.expose_secret());
        let between = secrets(&format!("{}{}", new.expose_secret(), old.expose_secret()));
        let after = secrets(new.expose_secret());
        let (id, other) = (FactorId::generate(), FactorId::generate());
        let secret = TotpSecrets::generate();
        let sealed = before.seal(id, &secret).expect("sealed");
        assert!(before.open(other, &sealed).is_none());
        assert!(after.open(id, &sealed).is_none());
        let (opened, is_current) = between.open(id, &sealed).expect("opened");
        assert!(!is_current);
        assert_eq!(opened.0.expose_secret(), secret.0.expose_secret());
        let resealed = between.seal(id, &opened).expect("sealed");
        assert!(after.open(id, &resealed).expect("opened").1);
    }

    #[test]
    fn an_app_gets_the_secret_the_login_and_the_site() {
        let secrets = secrets(ServerSecrets::generate().expose_secret());
        let secret = TotpSecret(SecretSlice::from(RFC_SECRET.to_vec()));
        let setup = secrets.setup(&secret, "ann").expect("a setup");
        let base32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(setup.secret.expose_secret(), base32);
        let uri = format!("otpauth://totp/games.example:ann?secret={base32}&issuer=games.example");
        assert_eq!(setup.uri.expose_secret(), uri);
        assert!(!format!("{setup:?} {secret:?} {secrets:?}").contains(base32));
    }
}
