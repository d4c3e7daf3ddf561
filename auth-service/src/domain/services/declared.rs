//! Service accounts that are declared in a file. They are created or updated at the start, so that
//! they match the file.

use std::fmt;

use base::clock::Timestamp;
use db::Conn;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::{
    domain::{
        audit::event::AuditEvent,
        error::Error,
        feed,
        rbac::{
            code_name::{CodeName, PermissionName},
            lock::lock_policies,
        },
        request_context::RequestContext,
        services::{
            accounts::{NewServiceAccount, digest_of, service_account_create, set_holdings},
            client_id::ClientId,
        },
        sessions::revocation,
    },
    store,
};

/// Minimum length of a secret, in bytes.
const MIN_SECRET_LEN: usize = 32;
const DIGEST_LEN: usize = 32;

/// A service account as it is declared.
#[derive(Clone, Debug)]
pub struct ServiceAccountSpec {
    account: NewServiceAccount,
    secret_hash: Vec<u8>,
    /// Whether the description is declared. If not, an existing account keeps its own.
    has_description: bool,
}

/// The error for a file of service accounts that cannot be used. It names every bad entry, but no
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct InvalidServiceAccounts(Vec<String>);

/// An entry of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    client_id: String,
    description: Option<String>,
    /// Secret. Either this or `secret_sha256` is required.
    secret: Option<SecretString>,
    /// SHA-256 of the secret, in hexadecimal digits.
    secret_sha256: Option<String>,
    roles: Option<Vec<String>>,
    #[serde(default)]
    permissions: Vec<String>,
}

impl ServiceAccountSpec {
    /// Declares an account with this secret and these roles.
    ///
    /// # Errors
    ///
    /// Fails if the client id is not valid.
    pub fn new(client_id: &str, secret: &SecretString, roles: &[&str]) -> Result<Self, impl fmt::Display + use<>> {
        client_id.parse::<ClientId>().map(|client_id| Self {
            account: NewServiceAccount {
                client_id,
                description: String::new(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                permissions: Vec::new(),
            },
            secret_hash: digest_of(secret.expose_secret()),
            has_description: false,
        })
    }

    /// Reads the accounts from a JSON array of `{"client_id", "secret" or "secret_sha256",
    /// "description", "roles", "permissions"}`.
    pub fn parse_all(json: &str) -> Result<Vec<Self>, InvalidServiceAccounts> {
        // The error gives only the position, because the text there may be a secret.
        let entries: Vec<Entry> = serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = "it must be a JSON array of objects each with client_id, either secret or \
                secret_sha256, and optionally description, roles and permissions";
            InvalidServiceAccounts(vec![format!("line {line}, column {column}: {what}")])
        })?;
        let mut specs: Vec<Self> = Vec::new();
        let mut bad = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            match entry.check() {
                Ok(spec)
                    if specs
                        .iter()
                        .any(|other| other.account.client_id == spec.account.client_id) =>
                {
                    bad.push(format!("entry {}: another entry has the same client_id", index + 1));
                }
                Ok(spec) => specs.push(spec),
                Err(reasons) => bad.extend(reasons.into_iter().map(|why| format!("entry {}: {why}", index + 1))),
            }
        }
        if bad.is_empty() {
            Ok(specs)
        } else {
            Err(InvalidServiceAccounts(bad))
        }
    }

    /// Creates the account, or updates its secret, description, roles and permissions as declared.
    /// Writes nothing if they are already so. If the secret, the roles or the permissions change,
    /// the service's tokens are refused from then on.
    pub(crate) async fn ensure(&self, tx: &mut Conn, context: &RequestContext, now: Timestamp) -> Result<(), Error> {
        let client_id = self.account.client_id.as_str();
        if let Some(account) = store::service_account_by_client_id(tx, client_id).await? {
            store::user_lock(tx, account.user_id).await?;
        }
        lock_policies(tx).await?;
        // Read again, because it may have changed before the locks were taken.
        let Some(account) = store::service_account_by_client_id(tx, client_id).await? else {
            service_account_create(tx, context, &self.account, &self.secret_hash, now).await?;
            return Ok(());
        };
        let is_secret_new = account.secret_hash != self.secret_hash;
        if is_secret_new {
            store::service_account_set_secret(tx, account.user_id, &self.secret_hash, None, now).await?;
            AuditEvent::new("service_account.rotate_secret")
                .target("service_account", client_id)
                .concerning(account.user_id)
                .record(tx, context, now)
                .await?;
        }
        let is_description_new = self.has_description && account.description != self.account.description;
        if is_description_new {
            store::service_account_describe(tx, account.user_id, &self.account.description).await?;
        }
        let are_holdings_new = set_holdings(tx, account.user_id, &self.account).await?;
        if is_description_new || are_holdings_new {
            AuditEvent::new("service_account.update")
                .target("service_account", client_id)
                .concerning(account.user_id)
                .detail("roles", self.account.roles.join(" "))
                .detail("permissions", self.account.permissions.join(" "))
                .record(tx, context, now)
                .await?;
        }
        if is_secret_new || are_holdings_new {
            // Anyone who knew the old secret has tokens, too.
            let (_, stale) = revocation::make_stale(tx, account.user_id).await?;
            feed::publish(tx, vec![stale], now).await?;
        }
        Ok(())
    }
}

impl Entry {
    fn check(self) -> Result<ServiceAccountSpec, Vec<String>> {
        let mut bad = Vec::new();
        let client_id = self
            .client_id
            .parse::<ClientId>()
            .map_err(|error| bad.push(format!("client_id {error}")));
        let secret_hash = match (&self.secret, &self.secret_sha256) {
            (Some(secret), None) if secret.expose_secret().len() >= MIN_SECRET_LEN => {
                Some(digest_of(secret.expose_secret()))
            }
            (Some(_), None) => {
                bad.push(format!("secret must be at least {MIN_SECRET_LEN} bytes"));
                None
            }
            (None, Some(hex)) => {
                let bytes = from_hex(hex);
                if bytes.is_none() {
                    bad.push("secret_sha256 must be 64 hexadecimal digits".to_owned());
                }
                bytes
            }
            _ => {
                bad.push("needs either secret or secret_sha256".to_owned());
                None
            }
        };
        let roles = self.roles.unwrap_or_else(NewServiceAccount::default_roles);
        for role in &roles {
            if let Err(error) = role.parse::<CodeName>() {
                bad.push(format!("a role {error}"));
            }
        }
        for permission in &self.permissions {
            if let Err(error) = permission.parse::<PermissionName>() {
                bad.push(format!("a permission {error}"));
            }
        }
        match (client_id, secret_hash) {
            (Ok(client_id), Some(secret_hash)) if bad.is_empty() => Ok(ServiceAccountSpec {
                has_description: self.description.is_some(),
                account: NewServiceAccount {
                    client_id,
                    description: self.description.unwrap_or_default(),
                    roles,
                    permissions: self.permissions,
                },
                secret_hash,
            }),
            _ => Err(bad),
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != DIGEST_LEN * 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_accounts_file_is_parsed() {
        let secret = "s".repeat(32);
        let json = format!(
            r#"[{{"client_id": "game-service", "secret": "{secret}"}},
                {{"client_id": "courses", "secret_sha256": "{}",
                  "roles": ["service", "reader"], "permissions": ["games:read"]}}]"#,
            "0f".repeat(32)
        );
        let specs = ServiceAccountSpec::parse_all(&json).expect("good");
        assert_eq!(specs[0].account.roles, ["service"]);
        assert_eq!(specs[1].secret_hash, [0x0f; 32]);
        assert!(!format!("{specs:?}").contains(&secret));
    }

    #[test]
    fn every_bad_entry_is_reported_without_its_secret() {
        let json = r#"[{"client_id": "Game", "secret": "hunter2hunter2"}, {"client_id": "abc"},
            {"client_id": "abc", "secret_sha256": "xyz", "roles": ["A"], "permissions": ["b"]}]"#;
        let text = ServiceAccountSpec::parse_all(json).expect_err("bad").to_string();
        for part in [
            "entry 1: client_id",
            "entry 1: secret must be at least 32 bytes",
            "entry 2: needs",
            "entry 3: secret_sha256",
            "entry 3: a role",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
        for bad in ["", "{}", r#"[{"client_id": "abc", "secrt": "hunter2"}]"#] {
            let text = ServiceAccountSpec::parse_all(bad).expect_err("bad").to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
