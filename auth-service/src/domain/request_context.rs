//! The context of a request: the actor and the origin, by which a use case is allowed or refused
//! and which the audit log keeps.

use std::{net::IpAddr, sync::Arc};

use access::token::Principal;
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

/// The origin of a request. What is not known is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) address: Option<IpAddr>,
    /// Network under which failures from this address are counted.
    pub(crate) bucket: Option<IpNet>,
    /// At most 256 characters.
    pub(crate) user_agent: String,
    pub(crate) request_id: String,
}

impl RequestContext {
    /// Context of a command.
    pub(crate) fn command_line() -> Self {
        Self {
            actor: Actor::CommandLine,
            origin: Origin::default(),
        }
    }

    /// Context of work that auth-service does by itself.
    pub(crate) fn itself() -> Self {
        Self {
            actor: Actor::Itself,
            origin: Origin::default(),
        }
    }

    /// The principal, if somebody is signed in.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        match &self.actor {
            Actor::Principal(principal) => Some(principal),
            Actor::Anonymous | Actor::CommandLine | Actor::Itself => None,
        }
    }

    /// The user who acts.
    pub(crate) fn user_id(&self) -> Option<UserId> {
        self.principal().map(|principal| principal.user_id())
    }

    /// The session in which the user acts.
    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.principal().and_then(|principal| principal.session_id())
    }
}

impl Origin {
    /// The address as text; empty where it is not known.
    pub(crate) fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// A session is used from here now.
    pub(crate) fn session_use(&self, now: Timestamp) -> SessionUse {
        SessionUse {
            last_use_time: now,
            ip_address: self.address_text(),
            user_agent: self.user_agent.clone(),
        }
    }
}
