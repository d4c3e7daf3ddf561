//! Settings for second factors.

use std::collections::BTreeSet;

use access::policy::GUEST;
use base::StartError;

use crate::{domain::CodeName, model::ReservedRole};

/// Rules for second factors.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Second factors")]
pub struct FactorSettings {
    /// Code names of the roles whose members must have a second factor, separated by commas. A
    /// member without one adds it at the next login, with a code from a mail if mail can go to the
    /// member. Sessions that have begun go on. Set the same value for all replicas.
    #[arg(long, env = "REQUIRE_SECOND_FACTOR", value_delimiter = ',', value_name = "ROLES")]
    pub require_second_factor: Vec<String>,
}

impl FactorSettings {
    /// Returns the roles whose members must have a second factor. Guests and services cannot have
    /// one.
    pub(crate) fn required_roles(&self) -> Result<BTreeSet<String>, StartError> {
        let mut roles = BTreeSet::new();
        for role in self.require_second_factor.iter().map(|role| role.trim()) {
            let bad = |why: &str| StartError::Setting(format!("--require-second-factor {role}: {why}"));
            role.parse::<CodeName>().map_err(|error| bad(&error.to_string()))?;
            if [GUEST, ReservedRole::Service.code_name()].contains(&role) {
                return Err(bad("guests and services have no second factor"));
            }
            roles.insert(role.to_owned());
        }
        Ok(roles)
    }
}
