//! The life of a session, from login to logout.

mod devices;
mod groups;
mod interleavings;
mod logout;
mod of_user;
mod restore;
mod rotation;
mod rotation_races;
