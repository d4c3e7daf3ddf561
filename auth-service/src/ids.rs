//! Ids that only auth-service uses.

use base::ids::{Id, Kind};

macro_rules! ids {
    ($($(#[$doc:meta])* $id:ident, $kind:ident = $name:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $kind {}

        impl Kind for $kind {
            const NAME: &'static str = $name;
        }

        $(#[$doc])*
        pub(crate) type $id = Id<$kind>;
    )+};
}

ids! {
    /// Id of an event of the audit log.
    AuditEventId, AuditEventKind = "audit_event";
    /// Id of a device that has logged in.
    DeviceId, DeviceKind = "device";
    /// Id of a resource.
    ResourceId, ResourceKind = "resource";
    /// Id of an action.
    ActionId, ActionKind = "action";
    /// Id of a permission.
    PermissionId, PermissionKind = "permission";
    /// Id of a mail to a user.
    MailId, MailKind = "mail";
    /// Id of a former address of a user.
    EmailUndoId, EmailUndoKind = "email_undo";
    /// Id of a request for a mail.
    MailRequestId, MailRequestKind = "mail_request";
    /// Id of a second factor.
    FactorId, FactorKind = "factor";
    /// Id of a login that waits for a second factor.
    ChallengeId, ChallengeKind = "challenge";
    /// Id of a role.
    RoleId, RoleKind = "role";
}
