//! The actions that the audit log records.

/// Names of all actions, sorted. The comment of `AuditEvent.action` in the .proto lists them, too.
/// An action that is no longer recorded stays here, because older events have its name.
const ACTIONS: &[&str] = &[
    "action.create",
    "action.delete",
    "action.update",
    "deployment.restore",
    "permission.create",
    "permission.delete",
    "permission.grant",
    "permission.revoke",
    "permission.update",
    "policies.adopt",
    "policies.register",
    "resource.create",
    "resource.delete",
    "resource.update",
    "role.assign",
    "role.create",
    "role.delete",
    "role.set_permissions",
    "role.unassign",
    "role.update",
    "service_account.create",
    "service_account.delete",
    "service_account.revoke_tokens",
    "service_account.rotate_secret",
    "service_account.token",
    "service_account.update",
    "session.end",
    "session.login",
    "session.logout",
    "session.reauthenticate",
    "session.refresh_token_reused",
    "session.revoke",
    "session.revoke_all",
    "session.rotate_overlap",
    "session.rotate_retry",
    "signing_key.activate",
    "signing_key.expire",
    "signing_key.retire",
    "signing_key.rotate",
    "user.change_email",
    "user.change_password",
    "user.create",
    "user.deactivate",
    "user.delete",
    "user.email_taken",
    "user.export",
    "user.import",
    "user.invite",
    "user.lose_email",
    "user.reactivate",
    "user.register",
    "user.register_guest",
    "user.remove_imported_password",
    "user.request_email_change",
    "user.request_email_verification",
    "user.request_password_reset",
    "user.reset_password",
    "user.revert_email_change",
    "user.send_password_reset",
    "user.set_password",
    "user.unlock",
    "user.update",
    "user.upgrade",
    "user.verify_email",
];

/// Returns whether there is an action with this name or, if the text ends with `*`, with this
/// prefix.
pub(crate) fn is_audit_action(filter: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(prefix) => ACTIONS.iter().any(|action| action.starts_with(prefix)),
        None => ACTIONS.contains(&filter),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    /// Adds every text between two of these marks that has the form of an action.
    fn collect(found: &mut BTreeSet<String>, text: &str, mark: char) {
        let is_name =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let has_form = |text: &&str| {
            text.split_once('.')
                .is_some_and(|(subject, verb)| is_name(subject) && is_name(verb) && verb != "txt")
        };
        found.extend(text.split(mark).filter(has_form).map(str::to_owned));
    }

    fn collect_from_sources(found: &mut BTreeSet<String>, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect_from_sources(found, &path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let source = fs::read_to_string(&path).expect("a source");
                let (code, _tests) = source
                    .split_once("#[cfg(test)]\nmod tests")
                    .unwrap_or((source.as_str(), ""));
                collect(found, code, '"');
            }
        }
    }

    #[test]
    fn the_list_has_every_action_that_the_domain_records() {
        let mut recorded = BTreeSet::new();
        collect_from_sources(&mut recorded, &folder("src/domain"));
        let listed: BTreeSet<String> = ACTIONS.iter().map(|&action| action.to_owned()).collect();
        assert!(recorded.len() > 50 && ACTIONS.is_sorted());
        let missing: Vec<_> = recorded.difference(&listed).collect();
        assert!(
            missing.is_empty(),
            "add to ACTIONS and to the comment of AuditEvent.action: {missing:?}"
        );
    }

    #[test]
    fn the_comment_in_the_proto_has_every_action() {
        let proto = fs::read_to_string(folder("../proto/auth/v1/audit_service.proto")).expect("the .proto");
        let (before, _) = proto.split_once("string action = 3;").expect("the field");
        let (_, comment) = before.rsplit_once("// Action, as ").expect("its comment");
        let mut named = BTreeSet::new();
        collect(&mut named, comment, '`');
        assert_eq!(named, ACTIONS.iter().map(|&action| action.to_owned()).collect());
    }

    #[test]
    fn a_filter_names_an_action_or_the_beginning_of_one() {
        for known in ["user.delete", "user.*", "user.d*", "*"] {
            assert!(is_audit_action(known), "{known}");
        }
        for unknown in ["", "users.*", "user", "user.", "user%", "user.delete.*", "User.*"] {
            assert!(!is_audit_action(unknown), "{unknown}");
        }
    }
}
