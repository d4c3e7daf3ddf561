//! Makes the request context of the domain from a gRPC request.

use access::authz::Caller;
use server::{ClientAddress, RequestId};
use tonic::Request;

use crate::domain::{Actor, Origin, RequestContext, is_unseen};

/// Maximum number of characters of a user agent that are kept.
const MAX_USER_AGENT_LEN: usize = 256;
/// Maximum number of bytes of a user agent that are read. A UTF-8 character has at most four.
const MAX_USER_AGENT_BYTES: usize = 4 * MAX_USER_AGENT_LEN;
/// Headers with the user agent, by precedence. A browser cannot set `user-agent`, so gRPC-Web has a
/// header of its own.
const USER_AGENTS: [&str; 2] = ["x-user-agent", "user-agent"];

/// Returns the context of a request: the caller, and the address, user agent and id of the request.
pub(super) fn request_context<T>(request: &Request<T>) -> RequestContext {
    let extensions = request.extensions();
    let actor = match extensions.get::<Caller>() {
        Some(Caller::Principal(principal)) => Actor::Principal(principal.clone()),
        _ => Actor::Anonymous,
    };
    let address = extensions.get::<ClientAddress>().copied().unwrap_or_default();
    let user_agent = USER_AGENTS.iter().find_map(|name| request.metadata().get(*name));
    let user_agent = user_agent.map(|value| printable(value.as_bytes()));
    RequestContext {
        actor,
        origin: Origin {
            address: address.client(),
            bucket: address.bucket(),
            user_agent: user_agent.unwrap_or_default(),
            request_id: extensions
                .get::<RequestId>()
                .map(|id| id.as_str().to_owned())
                .unwrap_or_default(),
        },
    }
}

/// Returns the context of a request that says by itself who acts, such as one with a password. An
/// access token that comes with it may be somebody else's, and is ignored.
pub(super) fn context_without_bearer<T>(request: &Request<T>) -> RequestContext {
    RequestContext {
        actor: Actor::Anonymous,
        ..request_context(request)
    }
}

/// Makes a user agent printable. Bytes that are not UTF-8 and invisible characters become U+FFFD.
/// Control characters are removed.
fn printable(user_agent: &[u8]) -> String {
    let looked_at = user_agent.get(..MAX_USER_AGENT_BYTES).unwrap_or(user_agent);
    let text = String::from_utf8_lossy(looked_at);
    let shown = text.chars().filter(|c| !c.is_control());
    let shown = shown.map(|c| if is_unseen(c) { char::REPLACEMENT_CHARACTER } else { c });
    shown.take(MAX_USER_AGENT_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_made_printable() {
        for (bytes, shown) in [
            (&b"Mozilla/5.0 (X11)"[..], "Mozilla/5.0 (X11)"),
            ("Spiel für Müller/1.0 🎲".as_bytes(), "Spiel für Müller/1.0 🎲"),
            // Latin-1 is not valid UTF-8.
            (b"M\xfcller/1.0", "M\u{fffd}ller/1.0"),
            ("a\u{202e}b\u{200b}c".as_bytes(), "a\u{fffd}b\u{fffd}c"),
            (b"a\tb\x7fc\xc2\x85d", "abcd"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), shown, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_user_agent_is_truncated() {
        assert_eq!(printable("x".repeat(2000).as_bytes()), "x".repeat(256));
        assert_eq!(printable("🎲".repeat(2000).as_bytes()), "🎲".repeat(256));
    }
}
