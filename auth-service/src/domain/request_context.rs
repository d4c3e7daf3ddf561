//! The request context: the actor and the origin of a request. Use cases authorize the actor, and
//! the audit log records both.

use std::{net::IpAddr, sync::Arc};

use access::token::{Acr, Principal};
use base::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};
use ipnet::IpNet;

use crate::store::SessionUse;

/// The actor and the origin of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) actor: Actor,
    pub(crate) origin: Origin,
}

/// The actor of a request.
#[derive(Clone, Debug)]
pub(crate) enum Actor {
    /// A caller who is not signed in.
    Anonymous,
    /// The bearer of this token.
    Principal(Arc<Principal>),
    /// An operator at the server's own command line.
    CommandLine,
    /// auth-service itself.
    Itself,
}

/// The origin of a request. Unknown values are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    /// Network under which failures from this address are counted.
    pub(crate) bucket: Option<IpNet>,
    /// User agent, at most 256 characters.
    pub(crate) user_agent: String,
    pub(crate) request_id: String,
}

impl RequestContext {
    /// Returns the context of a command.
    pub(crate) fn command_line() -> Self {
        Self {
            actor: Actor::CommandLine,
            origin: Origin::default(),
        }
    }

    /// Returns the context of work that auth-service does by itself.
    pub(crate) fn itself() -> Self {
        Self {
            actor: Actor::Itself,
            origin: Origin::default(),
        }
    }

    /// Returns the principal, if the actor is signed in.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        match &self.actor {
            Actor::Principal(principal) => Some(principal),
            Actor::Anonymous | Actor::CommandLine | Actor::Itself => None,
        }
    }

    /// Returns the user who acts, if the actor is signed in.
    pub(crate) fn user_id(&self) -> Option<UserId> {
        self.principal().map(|principal| principal.user_id())
    }

    /// Returns the authentication context class of the actor's login, if it is known.
    pub(crate) fn acr(&self) -> Option<Acr> {
        self.principal().and_then(|principal| principal.acr())
    }

    /// Returns the session in which the user acts, if any.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.principal().and_then(|principal| principal.session_id())
    }
}

impl Origin {
    /// Returns the address as text, which is empty if the address is unknown.
    pub(crate) fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// Returns the record of a session that is used from this origin now.
    pub(crate) fn session_use(&self, now: Timestamp) -> SessionUse {
        SessionUse {
            last_use_time: now,
            ip_address: self.address_text(),
            user_agent: self.user_agent.clone(),
        }
    }
}
