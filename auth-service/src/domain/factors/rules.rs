//! Second factors of this deployment: the keys behind them, and the users who must have one.

use std::collections::BTreeSet;

use crate::{
    domain::factors::{challenge_token::ChallengeTokens, codes::RecoveryCodes, totp::TotpSecrets},
    model::ReservedRole,
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
