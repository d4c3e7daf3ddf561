//! Types that `build.rs` generates from `proto/`, and the descriptor set of each service.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::doc_lazy_continuation,
    clippy::pedantic
)]

/// Paths of all .proto files of the API, relative to `proto/`.
pub const API_FILES: &[&str] = include!(concat!(env!("OUT_DIR"), "/api_files.rs"));

/// Encoded descriptor set of the messages in errors: `ErrorReason` and
/// `google/rpc/error_details.proto`. Every server adds it to its reflection.
pub const COMMON_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/common.binpb"));

/// Types of `proto/auth/v1`.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("auth.v1");
        include!(concat!(env!("OUT_DIR"), "/auth.v1.debug.rs"));
        /// Encoded descriptor set of `auth/v1` and everything it imports, with all options and
        /// comments.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/auth.v1.binpb"));
    }
}

/// Types of `proto/game/v1`.
pub mod game {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("game.v1");
        include!(concat!(env!("OUT_DIR"), "/game.v1.debug.rs"));
        /// Encoded descriptor set of `game/v1` and everything it imports, with all options and
        /// comments.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/game.v1.binpb"));
    }
}

/// Types of `proto/authz/v1`.
pub mod authz {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("authz.v1");
        include!(concat!(env!("OUT_DIR"), "/authz.v1.debug.rs"));
    }
}
