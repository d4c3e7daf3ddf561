//! Device tokens: `d1.<device id>.<user id>.<HMAC>`.
//!
//! A device token names a device that its user has logged in from before. It cannot log anyone in.
//! It tells which session a login replaces, and under which counter failures of this device count,
//! so that nobody else can lock the device out. Like a refresh token, it is keyed by a secret
//! outside the database, so that a stolen database yields none. The same device and user always
//! give the same token.

use base::ids::UserId;
use secrecy::SecretString;

use crate::{
    domain::keys::{
        mac_keys::MacKeys,
        secret::{Purpose, ServerSecrets},
    },
    ids::DeviceId,
};

const VERSION: &str = "d1";

/// Makes and reads device tokens.
#[derive(Clone, Debug)]
pub(crate) struct DeviceTokens {
    keys: MacKeys,
}

impl DeviceTokens {
    pub(crate) fn new(secrets: &ServerSecrets) -> Self {
        Self {
            keys: MacKeys::new(secrets, Purpose::DeviceTokens),
        }
    }

    /// Returns the token of this device of this user.
    pub(in crate::domain) fn make(&self, device_id: DeviceId, user_id: UserId) -> SecretString {
        self.keys.seal(&format!("{VERSION}.{device_id}.{user_id}"))
    }

    /// Returns the device, if we made the token for this user.
    pub(in crate::domain) fn read(&self, token: &str, user_id: UserId) -> Option<DeviceId> {
        let (device, owner) = self.open(token)?;
        (owner == user_id).then_some(device)
    }

    /// Returns the device and the user for whom we made the token. The device may no longer be
    /// known.
    pub(in crate::domain) fn open(&self, token: &str) -> Option<(DeviceId, UserId)> {
        let mut parts = self.keys.open(token)?.split('.');
        let (VERSION, device, owner, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        Some((device.parse().ok()?, owner.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::domain::tokens::refresh::{RefreshClaim, RefreshTokens};

    fn secrets(text: &str) -> ServerSecrets {
        text.parse().expect("a secret")
    }

    #[test]
    fn a_token_is_valid_only_for_its_own_user() {
        let tokens = DeviceTokens::new(&secrets(ServerSecrets::generate().expose_secret()));
        let (device, user) = (DeviceId::generate(), UserId::generate());
        let token = tokens.make(device, user);
        assert!(token.expose_secret().len() <= crate::domain::keys::mac_keys::MAX_LEN);
        assert_eq!(tokens.read(token.expose_secret(), user), Some(device));
        assert_eq!(tokens.read(token.expose_secret(), UserId::generate()), None);
        assert_eq!(tokens.make(device, user).expose_secret(), token.expose_secret());
    }

    #[test]
    fn every_altered_token_is_refused() {
        let tokens = DeviceTokens::new(&secrets(ServerSecrets::generate().expose_secret()));
        let user = UserId::generate();
        let token = tokens.make(DeviceId::generate(), user);
        let token = token.expose_secret();
        for index in 0..token.len() {
            let mut altered = token.to_owned().into_bytes();
            altered[index] = if altered[index] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("ASCII");
            assert_eq!(tokens.read(&altered, user), None, "{altered}");
        }
        for altered in ["", ".", "d1...", &token[1..], &format!("{token}A"), &"d1.".repeat(1000)] {
            assert_eq!(tokens.read(altered, user), None, "{altered}");
        }
    }

    #[test]
    fn refresh_and_device_tokens_are_not_interchangeable() {
        let secrets = secrets(ServerSecrets::generate().expose_secret());
        let (devices, refresh) = (DeviceTokens::new(&secrets), RefreshTokens::new(&secrets));
        let user = UserId::generate();
        let claim = RefreshClaim {
            session_id: base::ids::SessionId::generate(),
            counter: 1,
        };
        assert_eq!(devices.read(refresh.make(claim).expose_secret(), user), None);
        let token = devices.make(DeviceId::generate(), user);
        assert!(refresh.read(token.expose_secret()).is_err());
    }

    #[test]
    fn the_previous_secret_verifies_tokens_but_signs_none() {
        let (new, old) = (ServerSecrets::generate(), ServerSecrets::generate());
        let before = DeviceTokens::new(&secrets(old.expose_secret()));
        let after = DeviceTokens::new(&secrets(&format!("{}{}", new.expose_secret(), old.expose_secret())));
        let (device, user) = (DeviceId::generate(), UserId::generate());
        assert_eq!(
            after.read(before.make(device, user).expose_secret(), user),
            Some(device)
        );
        assert_eq!(before.read(after.make(device, user).expose_secret(), user), None);
    }
}
