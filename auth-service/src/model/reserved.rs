//! Built-in roles and actions. Migrations create them, and they cannot be renamed or deleted.

/// Defines a closed set of code names.
macro_rules! reserved {
    (
        $(#[$attribute:meta])*
        $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $code_name:expr),+ $(,)? }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$variant_attribute])* $variant),+
        }

        impl $name {
            /// Returns the code name.
            pub(crate) const fn code_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $code_name),+
                }
            }

            /// Returns whether this is the entry with the code name.
            pub(crate) fn is(self, code_name: &str) -> bool {
                self.code_name() == code_name
            }

            /// Returns the entry with the code name, if that is reserved.
            pub(crate) fn parse(code_name: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|reserved| reserved.is(code_name))
            }
        }
    };
}

reserved! {
    /// A reserved role.
    ReservedRole {
        /// Holds every permission.
        Superuser = access::policy::SUPERUSER,
        /// Administers auth-service.
        Admin = "admin",
        /// Held by every registered user.
        Player = "player",
        /// Held by other services.
        Service = "service",
        /// Held by every guest, and by nobody else.
        Guest = access::policy::GUEST,
    }
}

reserved! {
    /// A reserved action.
    ReservedAction {
        /// Stands for every action of its resource. No RPC declares it.
        All = "all",
        /// Creates something.
        Create = "create",
        /// Reads something.
        Read = "read",
        /// Changes something.
        Update = "update",
        /// Deletes something.
        Delete = "delete",
    }
}
