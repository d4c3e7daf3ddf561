//! Second factors of this deployment: the keys behind them, and the users who must have one.

use std::collections::BTreeSet;

use db::Db;

use crate::{
    domain::factors::{challenge_token::ChallengeTokens, codes::RecoveryCodes, totp::TotpSecrets},
    model::ReservedRole,
    store,
};

/// Keys of second factors, and the rule on who needs one.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    pub(crate) secrets: TotpSecrets,
    pub(crate) recovery_codes: RecoveryCodes,
    pub(crate) challenges: ChallengeTokens,
    /// Code names of the roles whose members must have a second factor.
    pub(crate) required_roles: BTreeSet<String>,
}

impl Factors {
    /// Returns whether members of this role must have a second factor.
    pub(in crate::domain) fn are_required_of(&self, role: ReservedRole) -> bool {
        self.required_roles.contains(role.code_name())
    }
}

/// Logs which of the roles whose members must have a second factor do not exist. They may be
/// created later, but it is more likely that a name is misspelled.
pub(crate) async fn warn_of_unknown_roles(db: &Db, required: &BTreeSet<String>) -> db::Result<()> {
    if required.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = required.iter().map(String::as_str).collect();
    let known = store::roles_named(&mut db.read().await?, &names).await?;
    for role in required.iter().filter(|role| !known.contains(role)) {
        tracing::warn!(role, "--require-second-factor names a role that does not exist");
    }
    Ok(())
}
