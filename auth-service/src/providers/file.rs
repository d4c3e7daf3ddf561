//! The operator's file of identity providers: a JSON array of objects. Everything that is wrong
//! with it is reported at once.

use access::token::{Object, Reach};
use serde_json::{Map, Value};
use url::Url;

use super::spec::{Algorithm, KeysAt, NonceRule, ProviderSpec, check_url};

/// Maximum length of a name, in characters. A nonce contains it.
const MAX_NAME_LEN: usize = 32;
/// Path of the discovery document below the issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The error for a file that cannot be used. It lists every mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct InvalidProviders(Vec<String>);

/// Reads the file.
pub(crate) fn parse(json: &str) -> Result<Vec<ProviderSpec>, InvalidProviders> {
    let entries: Vec<Object> = serde_json::from_str(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = "it must be a JSON array of objects, in which no member is named twice";
        InvalidProviders(vec![format!("line {line}, column {column}: {what}")])
    })?;
    let mut specs: Vec<ProviderSpec> = Vec::new();
    let mut wrong = Vec::new();
    for (index, Object(members)) in entries.into_iter().enumerate() {
        let mut entry = Entry {
            members,
            wrong: Vec::new(),
        };
        let spec = entry.read();
        entry.refuse_others();
        if let Some(spec) = &spec {
            entry.refuse_repetition(spec, &specs);
        }
        let number = index + 1;
        wrong.extend(entry.wrong.into_iter().map(|why| format!("entry {number}: {why}")));
        specs.extend(spec);
    }
    if wrong.is_empty() {
        Ok(specs)
    } else {
        Err(InvalidProviders(wrong))
    }
}

/// An entry of the file that is being read.
struct Entry {
    /// Members that have not been read yet.
    members: Map<String, Value>,
    /// Mistakes that were found so far.
    wrong: Vec<String>,
}

impl Entry {
    /// Reads all members. Returns `None` if one that is required is missing or wrong.
    fn read(&mut self) -> Option<ProviderSpec> {
        let name = self.required("name").filter(|name| self.accepts_name(name));
        let display_name = self.text("display_name");
        let issuer = self.required("issuer");
        let audiences = self.texts("audiences");
        let web_client_id = self.text("web_client_id");
        if let (Some(client), Some(audiences)) = (&web_client_id, &audiences)
            && !audiences.contains(client)
        {
            self.wrong.push("web_client_id must be one of the audiences".to_owned());
        }
        let algorithms = self.texts("algorithms").map(|names| self.algorithms(&names));
        let reach = if self.flag("allow_private_addresses") {
            Reach::Anywhere
        } else {
            Reach::PublicInternet
        };
        let keys = self.keys(issuer.as_deref(), reach);
        let nonce_rule = match self.text("nonce").as_deref() {
            None | Some("raw") => NonceRule::Raw,
            Some("sha256") => NonceRule::Sha256,
            Some(_) => {
                self.wrong.push("nonce must be \"raw\" or \"sha256\"".to_owned());
                NonceRule::Raw
            }
        };
        let trusts_email = self.flag("trusts_email");
        let name = name?;
        Some(ProviderSpec {
            display_name: display_name.unwrap_or_else(|| name.clone()),
            name,
            issuer: issuer?,
            audiences: audiences?,
            web_client_id,
            algorithms: algorithms?,
            keys: keys?,
            nonce_rule,
            trusts_email,
            reach,
        })
    }

    fn accepts_name(&mut self, name: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = name.len() <= MAX_NAME_LEN && name.bytes().all(is_allowed);
        if !is_name {
            self.wrong
                .push(format!("name must be 1 to {MAX_NAME_LEN} of the characters a-z 0-9 -"));
        }
        is_name
    }

    fn algorithms(&mut self, names: &[String]) -> Vec<Algorithm> {
        let known = names.iter().filter_map(|name| {
            let algorithm = Algorithm::named(name);
            if algorithm.is_none() {
                let all = Algorithm::ALL.map(Algorithm::name).join(", ");
                self.wrong.push(format!("algorithms may hold only {all}"));
            }
            algorithm
        });
        known.collect()
    }

    /// Reads the place of the keys. Without one, it is the discovery document of the issuer.
    fn keys(&mut self, issuer: Option<&str>, reach: Reach) -> Option<KeysAt> {
        let (discovery, jwks) = (self.text("discovery_url"), self.text("jwks_url"));
        match (discovery, jwks) {
            (Some(_), Some(_)) => {
                self.wrong
                    .push("discovery_url and jwks_url exclude each other".to_owned());
                None
            }
            (Some(url), None) => self.url("discovery_url", &url, reach).map(KeysAt::Discovery),
            (None, Some(url)) => self.url("jwks_url", &url, reach).map(KeysAt::Jwks),
            (None, None) => {
                let url = format!("{}{DISCOVERY}", issuer?.trim_end_matches('/'));
                self.url("issuer", &url, reach).map(KeysAt::Discovery)
            }
        }
    }

    fn url(&mut self, member: &str, text: &str, reach: Reach) -> Option<Url> {
        let url = Url::parse(text).map_err(|_| "must be a URL");
        match url.and_then(|url| check_url(&url, reach).map(|()| url)) {
            Ok(url) => Some(url),
            Err(why) => {
                self.wrong.push(format!("{member} {why}"));
                None
            }
        }
    }

    /// Reads an optional text, which must not be empty.
    fn text(&mut self, member: &str) -> Option<String> {
        match self.members.remove(member) {
            None => None,
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text),
            Some(_) => {
                self.wrong.push(format!("{member} must be a text"));
                None
            }
        }
    }

    fn required(&mut self, member: &str) -> Option<String> {
        if !self.members.contains_key(member) {
            self.wrong.push(format!("{member} is required"));
        }
        self.text(member)
    }

    /// Reads a required list of texts, which must not be empty.
    fn texts(&mut self, member: &str) -> Option<Vec<String>> {
        let texts = match self.members.remove(member) {
            Some(Value::Array(values)) if !values.is_empty() => values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) if !text.is_empty() => Some(text),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        if texts.is_none() {
            self.wrong.push(format!("{member} must be a list of texts"));
        }
        texts
    }

    /// Reads an optional flag, which is false by default.
    fn flag(&mut self, member: &str) -> bool {
        match self.members.remove(member) {
            None => false,
            Some(Value::Bool(value)) => value,
            Some(_) => {
                self.wrong.push(format!("{member} must be true or false"));
                false
            }
        }
    }

    /// Refuses the members that have not been read.
    fn refuse_others(&mut self) {
        let unknown = self.members.keys().map(|member| format!("{member} is not known"));
        self.wrong.extend(unknown);
    }

    /// Refuses an entry whose users could not be told from those of an earlier entry.
    fn refuse_repetition(&mut self, spec: &ProviderSpec, earlier: &[ProviderSpec]) {
        if earlier.iter().any(|other| other.name == spec.name) {
            self.wrong.push("another entry has the same name".to_owned());
        }
        if earlier.iter().any(|other| other.issuer == spec.issuer) {
            self.wrong
                .push("another entry has the same issuer; list all client ids as its audiences".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOGLE: &str = r#"{
        "name": "google",
        "display_name": "Google",
        "issuer": "https://accounts.google.com",
        "audiences": ["1.apps.example", "2.apps.example"],
        "web_client_id": "1.apps.example",
        "algorithms": ["RS256"],
        "trusts_email": true
    }"#;

    fn refused(json: &str) -> String {
        parse(json).expect_err("bad").to_string()
    }

    #[test]
    fn a_file_of_providers_is_read() {
        let local = r#"{
            "name": "local",
            "issuer": "http://127.0.0.1:9000",
            "audiences": ["page"],
            "algorithms": ["ES256", "EdDSA"],
            "jwks_url": "http://127.0.0.1:9000/keys",
            "nonce": "sha256",
            "allow_private_addresses": true
        }"#;
        let specs = parse(&format!("[{GOOGLE}, {local}]")).expect("good");
        let google = &specs[0];
        assert_eq!(
            (google.name.as_str(), google.display_name.as_str()),
            ("google", "Google")
        );
        assert_eq!(google.algorithms, [Algorithm::Rs256]);
        let discovery = "https://accounts.google.com/.well-known/openid-configuration";
        assert_eq!(google.keys, KeysAt::Discovery(discovery.parse().expect("a URL")));
        assert_eq!(
            (google.nonce_rule, google.reach),
            (NonceRule::Raw, Reach::PublicInternet)
        );
        assert!(google.trusts_email);
        let local = &specs[1];
        assert_eq!(local.display_name, "local");
        assert_eq!(local.algorithms, [Algorithm::Es256, Algorithm::EdDsa]);
        let keys = "http://127.0.0.1:9000/keys".parse().expect("a URL");
        assert_eq!(local.keys, KeysAt::Jwks(keys));
        assert_eq!((local.nonce_rule, local.reach), (NonceRule::Sha256, Reach::Anywhere));
        assert!(!local.trusts_email && local.web_client_id.is_none());
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let bad = r#"[{"name": "My IdP", "isuer": "x", "audiences": [], "algorithms": ["RS256", "none"], "nonce": "md5",
            "trusts_email": "yes", "web_client_id": ""}]"#;
        let error = refused(bad);
        for part in [
            "entry 1: name must be",
            "issuer is required",
            "isuer is not known",
            "audiences must be a list",
            "algorithms may hold only RS256, ES256, EdDSA",
            "nonce must be",
            "trusts_email must be true or false",
            "web_client_id must be a text",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let twice = refused(&format!("[{GOOGLE}, {GOOGLE}]"));
        assert!(twice.contains("entry 2: another entry has the same name"), "{twice}");
        assert!(twice.contains("entry 2: another entry has the same issuer"), "{twice}");
        let foreign = GOOGLE.replace(r#""web_client_id": "1.apps"#, r#""web_client_id": "3.apps"#);
        let error = refused(&format!("[{foreign}]"));
        assert!(error.contains("web_client_id must be one of the audiences"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let twice = GOOGLE.replace(
            r#""trusts_email": true"#,
            r#""trusts_email": false, "trusts_email": true"#,
        );
        for bad in ["", "{}", "[1]", "[", &format!("[{twice}]")] {
            assert!(refused(bad).contains("line"), "{bad}");
        }
    }

    #[test]
    fn documents_come_from_elsewhere_only_over_tls_and_from_this_machine_only_by_permission() {
        let with = |member: &str| {
            let json = GOOGLE.replace(r#""trusts_email": true"#, member);
            parse(&format!("[{json}]")).err().map(|error| error.to_string())
        };
        assert_eq!(with(r#""jwks_url": "https://10.0.0.1/keys""#), None);
        for (member, part) in [
            (
                r#""jwks_url": "http://id.example/keys""#,
                "jwks_url must begin with https",
            ),
            (
                r#""jwks_url": "http://127.0.0.1/keys""#,
                "needs \"allow_private_addresses\": true",
            ),
            (r#""discovery_url": "nowhere""#, "discovery_url must be a URL"),
            (
                r#""discovery_url": "https://a.example", "jwks_url": "https://a.example""#,
                "exclude each other",
            ),
        ] {
            let error = with(member).expect(member);
            assert!(error.contains(part), "{error}");
        }
    }
}
