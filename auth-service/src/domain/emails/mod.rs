//! The e-mail addresses of users: proof that users receive mail at them ([`verification`]), how
//! they change ([`change`]) and how a change is undone ([`undo`]), how an address passes from a
//! user who has never verified it to one who does ([`holder`]), and the setting by which users must
//! prove their address before they log in ([`requirement`]).

pub(super) mod caller;
pub(super) mod change;
pub(super) mod holder;
pub(super) mod requirement;
pub(super) mod rule;
pub(super) mod undo;
pub(super) mod verification;
