//! `auth-service create-service-account`: creates an account for another service. It needs access
//! to the database, but no account.

use base::{StartError, clock::Clock, secret_files::SecretFiles};
use db::DatabaseArgs;
use secrecy::ExposeSecret as _;

use super::bad;
use crate::domain::{
    ClientId, CodeName, Error, NewServiceAccount, PermissionName, RequestContext, create_service_account,
};

/// The command `create-service-account`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateServiceAccount {
    /// Name of the service: 3 to 32 of the characters `a-z 0-9 _ -`.
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// Description of the service, for people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Code name of a role for the account. Can be given several times [default: service]
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Further permission for the account, as `resource:action`. Can be given several times.
    #[arg(long, value_name = "PERMISSION")]
    permission: Vec<String>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    secret_files: SecretFiles,
}

impl CreateServiceAccount {
    /// Creates the account and prints its secret, of which only a digest is stored. Can run while
    /// services use the same PostgreSQL database.
    pub async fn run(self) -> Result<(), StartError> {
        let new = self.account()?;
        let (db, _) = super::open(&self.database, self.secret_files).await?;
        let made = create_service_account(&db, &Clock::system(), &RequestContext::command_line(), new).await;
        let secret = made.map_err(|error| match error {
            Error::ServiceAccountAlreadyExists => {
                StartError::Failed(format!("the service account {} already exists", self.client_id))
            }
            Error::RoleNotFound(role) => StartError::Failed(format!("there is no role {role}")),
            Error::PermissionNotFound(name) => StartError::Failed(format!("there is no permission {name}")),
            error => StartError::Failed(format!("cannot create the service account: {error}")),
        })?;
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        {
            println!("{}", secret.expose_secret());
        }
        Ok(())
    }

    fn account(&self) -> Result<NewServiceAccount, StartError> {
        let client_id: ClientId = self.client_id.parse().map_err(|error| bad("--client-id", &error))?;
        for role in &self.role {
            role.parse::<CodeName>()
                .map_err(|error| bad(&format!("--role {role}"), &error))?;
        }
        for permission in &self.permission {
            permission
                .parse::<PermissionName>()
                .map_err(|error| bad(&format!("--permission {permission}"), &error))?;
        }
        Ok(NewServiceAccount {
            client_id,
            description: self.description.clone(),
            roles: if self.role.is_empty() {
                NewServiceAccount::default_roles()
            } else {
                self.role.clone()
            },
            permissions: self.permission.clone(),
        })
    }
}
