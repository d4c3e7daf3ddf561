//! Who calls, and from where, for the domain.

use shared::{
    authz::Caller,
    server::{ClientAddress, RequestId},
};
use tonic::Request;

use crate::domain::{Act, Actor, Origin};

/// Bytes of a user agent that are kept, and looked at.
const MAX_USER_AGENT_LEN: usize = 256;
/// A browser cannot set `user-agent`; gRPC-Web has this instead.
const USER_AGENTS: [&str; 2] = ["x-user-agent", "user-agent"];

pub(super) fn act<T>(request: &Request<T>) -> Act {
    let extensions = request.extensions();
    let actor = match extensions.get::<Caller>() {
        Some(Caller::Principal(principal)) => Actor::Principal(principal.clone()),
        _ => Actor::Anonymous,
    };
    let address = extensions.get::<ClientAddress>().copied().unwrap_or_default();
    let user_agent = USER_AGENTS.iter().find_map(|name| {
        let bytes = request.metadata().get(*name)?.as_bytes();
        let kept = bytes.get(..MAX_USER_AGENT_LEN).unwrap_or(bytes);
        str::from_utf8(kept).ok().filter(|text| text.is_ascii())
    });
    let user_agent = user_agent.unwrap_or_default();
    Act {
        actor,
        origin: Origin {
            address: address.client(),
            bucket: address.bucket(),
            user_agent: user_agent.chars().filter(|c| !c.is_control()).collect(),
            request_id: extensions
                .get::<RequestId>()
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default(),
        },
    }
}
