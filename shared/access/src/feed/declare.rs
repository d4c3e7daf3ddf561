//! Declaration of the service's permissions to auth-service, so that roles can be granted them
//! there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::auth::v1::{DeclaredPermission, RegisterPoliciesRequest, rbac_service_client::RbacServiceClient};
use tokio::time::{sleep, timeout};
use tonic::{Code, transport::Channel};

use super::{
    credentials::Tokens,
    error::{FollowError, backoff, is_refusal},
};
use crate::policy::{Policies, SUPERUSER};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Permissions to declare, and the connection to auth-service.
#[derive(Debug)]
pub(super) struct Declaration {
    channel: Channel,
    tokens: Arc<Tokens>,
    permissions: Vec<DeclaredPermission>,
}

impl Declaration {
    /// Collects every permission that an RPC requires, and the roles that hold it from the start.
    pub(super) fn new(channel: Channel, tokens: Arc<Tokens>, policies: &Policies) -> Self {
        let permissions = policies.permissions().into_iter().map(|(name, permission)| {
            let declared = DeclaredPermission {
                resource: permission.resource.clone(),
                action: permission.action.clone(),
                default_roles: Vec::new(),
            };
            (name, declared)
        });
        let mut permissions: BTreeMap<String, DeclaredPermission> = permissions.collect();
        for (role, permission) in policies.default_grants().filter(|(role, _)| *role != SUPERUSER) {
            if let Some(declared) = permissions.get_mut(&permission.to_string())
                && !declared.default_roles.iter().any(|known| known == role)
            {
                declared.default_roles.push(role.to_owned());
            }
        }
        Self {
            channel,
            tokens,
            permissions: permissions.into_values().collect(),
        }
    }

    /// Declares the permissions, and retries until auth-service accepts or refuses them.
    pub(super) async fn declare(self) {
        let mut backoff = backoff();
        while let Err(error) = self.try_once().await {
            if let FollowError::Declaration(status) = &error {
                match status.code() {
                    Code::PermissionDenied => {
                        tracing::error!(
                            %error,
                            "cannot declare the permissions of this service, so they cannot be granted: give its \
                             service account the role `service` and restart it"
                        );
                        return;
                    }
                    Code::Unauthenticated => self.tokens.forget().await,
                    code if code == Code::NotFound || is_refusal(status) => {
                        tracing::error!(%error, "cannot declare the permissions of this service");
                        return;
                    }
                    _ => {}
                }
            }
            let pause = error.pause(&mut backoff);
            let failures = backoff.failures();
            // The follower already logs that auth-service is unreachable.
            tracing::debug!(%error, failures, "cannot declare the permissions of this service yet");
            sleep(pause).await;
        }
    }

    async fn try_once(&self) -> Result<(), FollowError> {
        let request = RegisterPoliciesRequest {
            permissions: self.permissions.clone(),
        };
        let token = self.tokens.get().await?;
        let mut client = RbacServiceClient::new(self.channel.clone());
        let answer = timeout(ANSWER_WITHIN, client.register_policies(token.request(request))).await;
        let answer = answer.map_err(|_| FollowError::Silent(ANSWER_WITHIN))?;
        let created = answer
            .map_err(FollowError::Declaration)?
            .into_inner()
            .created_permissions;
        if !created.is_empty() {
            tracing::info!(permissions = created.join(", "), "declared new permissions");
        }
        Ok(())
    }
}
