//! game-service
