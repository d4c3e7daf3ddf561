//! Audiences of the tokens that a service accepts.

use super::Audience;

/// Values of `aud` that a service accepts: the name of the deployment, which stands for all of its
/// services, or the service's own name.
#[derive(Clone, Debug)]
pub struct AcceptedAudiences {
    deployment: String,
    own: Option<String>,
    admits_deployment_as_own: bool,
    is_any: bool,
}

/// Set of services that accept a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only this service accepts it.
    ThisServiceAlone,
    /// Other services accept it too.
    Others,
}

impl AcceptedAudiences {
    /// Accepts tokens for the deployment with this name.
    pub fn deployment(name: impl Into<String>) -> Self {
        Self {
            deployment: name.into(),
            own: None,
            admits_deployment_as_own: false,
            is_any: false,
        }
    }

    /// Also accepts tokens for the service with this name.
    #[must_use]
    pub fn or_service(mut self, name: impl Into<String>) -> Self {
        self.own = Some(name.into());
        self
    }

    /// Sets whether a token for the deployment also counts as a token for this service only.
    #[must_use]
    pub const fn admitting_deployment_as_own(mut self, admits: bool) -> Self {
        self.admits_deployment_as_own = admits;
        self
    }

    /// Also accepts tokens for any other service. Use this only to inspect or revoke tokens, never
    /// to authenticate calls.
    #[must_use]
    pub const fn or_any(mut self) -> Self {
        self.is_any = true;
        self
    }

    /// Returns the service's own name.
    pub(super) fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// Returns how far a token with this audience reaches, or `None` if it is not for this service.
    pub(super) fn reach(&self, audience: &Audience) -> Option<Reach> {
        let names = audience.names();
        let is_own = |name: &String| self.own.as_ref() == Some(name);
        if !names.is_empty() && names.iter().all(is_own) {
            return Some(Reach::ThisServiceAlone);
        }
        let is_deployment = |name: &String| *name == self.deployment;
        if self.admits_deployment_as_own && !names.is_empty() && names.iter().all(is_deployment) {
            return Some(Reach::ThisServiceAlone);
        }
        let is_accepted = names.iter().any(|name| is_own(name) || is_deployment(name)) || self.is_any;
        is_accepted.then_some(Reach::Others)
    }
}

impl<T: Into<String>> From<T> for AcceptedAudiences {
    fn from(deployment: T) -> Self {
        Self::deployment(deployment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(names: &[&str]) -> Audience {
        Audience::Many(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_audience_decides_the_reach_of_a_token() {
        let strict = AcceptedAudiences::deployment("shop").or_service("auth-service");
        let lenient = strict.clone().admitting_deployment_as_own(true);
        let (alone, others) = (Some(Reach::ThisServiceAlone), Some(Reach::Others));
        for (audience, by_strict, by_lenient) in [
            ("auth-service".into(), alone, alone),
            (many(&["auth-service"]), alone, alone),
            ("shop".into(), others, alone),
            (many(&["shop"]), others, alone),
            (many(&["auth-service", "game-service"]), others, others),
            (many(&["shop", "auth-service"]), others, others),
            ("game-service".into(), None, None),
            ("Auth-Service".into(), None, None),
            ("".into(), None, None),
            (many(&[]), None, None),
        ] {
            assert_eq!(strict.reach(&audience), by_strict, "{audience:?}");
            assert_eq!(lenient.reach(&audience), by_lenient, "{audience:?}");
        }
        // A service without a name of its own never treats a token as one for itself only.
        let nameless = AcceptedAudiences::deployment("shop");
        assert_eq!(nameless.reach(&"shop".into()), others);
        assert_eq!(nameless.reach(&"auth-service".into()), None);
        assert_eq!(nameless.or_any().reach(&"game-service".into()), others);
    }

    #[test]
    fn one_audience_is_written_as_a_string_and_several_as_a_list() {
        let text = |audience: &Audience| serde_json::to_string(audience).unwrap();
        assert_eq!(text(&"shop".into()), r#""shop""#);
        assert_eq!(text(&many(&["a", "b"])), r#"["a","b"]"#);
        for bad in ["null", "1", r#"{"a":1}"#, "[1]"] {
            assert!(serde_json::from_str::<Audience>(bad).is_err(), "{bad}");
        }
    }
}
