//! The ids that only auth-service knows.

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
    /// Names an event of the audit log.
    AuditEventId, AuditEventKind = "audit_event";
    /// Names a device that has logged in.
    DeviceId, DeviceKind = "device";
    /// Names a resource.
    ResourceId, ResourceKind = "resource";
    /// Names an action.
    ActionId, ActionKind = "action";
    /// Names a permission.
    PermissionId, PermissionKind = "permission";
    /// Names a role.
    RoleId, RoleKind = "role";
}
