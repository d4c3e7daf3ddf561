//! Proofs of the second factor: who must give one, and how one is used up.

use db::Conn;
use secrecy::SecretString;

use crate::{
    domain::{error::Error, users::accounts::Accounts},
    model::{TotpFactor, User},
    store,
};

/// A proof of the second factor, as presented.
#[derive(Clone, Debug)]
pub(crate) enum SecondProof {
    /// A code that an authenticator app shows.
    Totp(SecretString),
    RecoveryCode(SecretString),
}

/// Step that a login with the right password still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Missing {
    /// A code of the user's second factor.
    SecondFactor,
    /// A second factor, which the user must have and has not.
    Enrolment,
}

impl SecondProof {
    /// Returns the name of the proof in the audit log.
    pub(in crate::domain) const fn name(&self) -> &'static str {
        match self {
            Self::Totp(_) => "totp",
            Self::RecoveryCode(_) => "recovery_code",
        }
    }
}

impl Accounts {
    /// Returns what the user needs for a login besides the password.
    pub(in crate::domain) async fn missing_factor(&self, conn: &mut Conn, user: &User) -> db::Result<Option<Missing>> {
        if user.has_second_factor {
            return Ok(Some(Missing::SecondFactor));
        }
        if self.factors.required_roles.is_empty() {
            return Ok(None);
        }
        let roles = store::user_role_names(conn, user.id).await?;
        let must_have = roles.iter().any(|role| self.factors.required_roles.contains(role));
        Ok(must_have.then_some(Missing::Enrolment))
    }

    /// Returns whether a login of the user needs only the password, by what is known before the
    /// user's row is locked.
    pub(in crate::domain) async fn passes_without_factor(&self, user: &User) -> db::Result<bool> {
        if user.has_second_factor || self.factors.required_roles.is_empty() {
            return Ok(!user.has_second_factor);
        }
        Ok(self.missing_factor(&mut self.db.read().await?, user).await?.is_none())
    }

    /// Uses a proof of the user's second factor up, if it is right. Returns whether it is. The
    /// caller has locked the user's row, so of many calls with one code only one succeeds.
    pub(in crate::domain) async fn use_second_factor(
        &self,
        tx: &mut Conn,
        user: &User,
        proof: &SecondProof,
    ) -> Result<bool, Error> {
        match proof {
            SecondProof::Totp(code) => {
                let factors = store::totp_factors(tx, user.id).await?;
                for factor in factors.iter().filter(|factor| factor.confirm_time.is_some()) {
                    if self.use_totp(tx, factor, code).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            SecondProof::RecoveryCode(code) => {
                let macs = self.factors.recovery_codes.macs(user.id, code);
                Ok(store::recovery_code_take(tx, user.id, &macs).await?)
            }
        }
    }

    /// Accepts a code of this authenticator app, if it is right and of a later time step than the
    /// last one that was accepted. The first code confirms the factor.
    pub(super) async fn use_totp(
        &self,
        tx: &mut Conn,
        factor: &TotpFactor,
        code: &SecretString,
    ) -> Result<bool, Error> {
        let secrets = &self.factors.secrets;
        let Some((secret, is_current)) = secrets.open(factor.id, &factor.sealed_secret) else {
            tracing::error!(factor_id = %factor.id, "the secret of a second factor cannot be decrypted, because the \
                server secret that encrypted it is gone; its user needs a recovery code");
            return Ok(false);
        };
        let now = self.clock.now();
        let Some(step) = secret.step_of(code, now)?.filter(|step| *step > factor.last_step) else {
            return Ok(false);
        };
        let confirm_time = factor.confirm_time.unwrap_or(now);
        store::totp_factor_use(tx, factor.id, step, confirm_time).await?;
        if !is_current {
            let sealed = secrets.seal(factor.id, &secret)?;
            store::totp_factor_reseal(tx, factor.id, &sealed).await?;
        }
        Ok(true)
    }
}
