//! Hashes that Django 5.2, bcrypt 5.0, passlib 1.7 and argon2-cffi 25.1 made, and damaged ones.
//!
//! The first six are from `python manage.py shell`:
//!
//! ```text
//! from django.contrib.auth.hashers import make_password
//! for hasher in ("pbkdf2_sha256", "pbkdf2_sha1", "bcrypt_sha256", "bcrypt", "scrypt", "argon2"):
//!     print(make_password("zażółć gęślą jaźń", hasher=hasher))
//! ```
//!
//! The others are `bcrypt.hashpw(password, bcrypt.gensalt(10))`, `pbkdf2_sha256.hash(password)` and
//! its siblings of `passlib.hash`, `hashlib.pbkdf2_hmac`, and `argon2.low_level.hash_secret`.

use super::*;

const PASSWORD: &str = "zażółć gęślą jaźń";

const DJANGO: [&str; 7] = [
    "pbkdf2_sha256$1000000$R5e69DdP1AYixLTbwhJgpv$mF37vnIiMSTiymnp78I3RlOGITPtdDyIYwbz4tf/nRY=",
    "pbkdf2_sha1$1000000$6sJ9Q1noB7p3DjdJi3olkp$8z0wtjlaLfkz1jfnwEkJVb7CWQ8=",
    "bcrypt_sha256$$2b$12$O78fX1qmrDrKtH2ABmo5zevCE3AGQnJOUm0cvrUbhjXKuskBuOwPe",
    "bcrypt$$2b$12$3N5DFq7vxOSxmRE49Rd/4epE4/ExBbWllI3SpcOVYV2qLBS2eTsPm",
    "scrypt$16384$5h06bS2jdxjcJNGTt59KBj$8$5$c63zfgryszaXoLhw8XaQ6ac4fBjaMv6psd83cUR2FLBJDqoD1THnbC3rveFvUl8KeA5PWR3\
        01H4WEuUsUEWpxg==",
    "argon2$argon2id$v=19$m=102400,t=2,p=8$SFVZZEVFWGVHemdjVDBaWThibWphdA$MzQMwHNgbQ6l6WdksyPjxHLXgivm3G4nM9pvp6DDmc\
        0",
    // As Django 1.10 made it.
    "argon2$argon2id$v=19$m=512,t=2,p=2$WmMwZE1GSGo4VUd0M0N4c0hwemJ6UA$biIgviUHc2Gu4b9SmZuuxYfqaoyG1CVsykGgpF2kF5M",
];

const OTHERS: [&str; 14] = [
    "$2a$10$33exmVu9oEWBRcwb6NhL0ux5CBPbFmEN1zdlQu/TITbMi6qPtb.kK",
    "$2b$10$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6",
    "$2y$10$JqUlAvNH0e8JiPCFpFAm4uJ98IZl6JhgZiEkvQBpEoztuyjWns5qm",
    "$pbkdf2-sha256$29000$inFO6V2rVerdey.l1Lq3dg$nHYR7T5TQjJjJ5OKSqbAlG28drSf..q1ulkNsHEzDuQ",
    "$pbkdf2-sha512$25000$4zxnjDFmjBFizDnHeO/9vw$MlAs5DYx9fe2/yXtWX8XLvKXpEAosujFDQxqle9ibRII.QFudLpFp9h0N0mW2XNelU/\
        l0djm0yAufIXQdrzBrg",
    "$pbkdf2$131000$srZ2Tun9n/N.7/1/j9GaMw$xKlsPkWGKq/ol8FukVhuLYfyyX0",
    "$scrypt$ln=14,r=8,p=1$0/p/j3Gu9f6/lxKidG6tdQ$EUIeYVcZrmOadRi4zAEdceNKhFzWz4/2j+e2qasvBAQ",
    "$argon2id$v=19$m=65536,t=3,p=4$vNc6h/B+j5HSem9N6T3n/A$xNL/Vk7OMXr7MocR0hpTdmrhZo4Ya4OEnc+kLk4PSBE",
    "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$RuX0ZdkUBOBuQ96/QEbQz0tT9cOSWsujImqVsJms4Ms",
    "$pbkdf2-sha512$i=210000,l=64$AAECAwQFBgcICQoLDA0ODw$SCKCFZUplsi6erhlWKxqnO7ZHxF3lFNfg/26JWtkO8mTkmSc08Mh+fSaVbj\
        pMN2Jx3l05CY5t4eCGdDJI/aQDg",
    "$argon2i$v=19$m=7168,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$IpClBwitJ8BWlZ0Y5358lXLtHgtrzDPFMrtxMK7i6TQ",
    "$argon2d$v=19$m=7168,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$VRe0lbZw2VhR8kW9fALeNnj4dkgARnX71uHtRankkHw",
    "$argon2id$v=19$m=7168,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$Buh6Wwrd+unGIfnq7e6qB58zzNI/nQY4K5dF9TMBO4c",
    "$argon2i$v=16$m=7168,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$zqm/+f4XP2o5vywc4bMomFGszDvDVUGlA1RN67/ovO0",
];

const RAISED: HashLimits = HashLimits {
    argon2_memory_kib: 102_400,
    argon2_lanes: 8,
};

fn refusal(text: &str) -> String {
    let refused = CheckedHash::new(text, HashLimits::DEFAULT);
    refused.map(drop).expect_err(text).to_string()
}

#[test]
fn real_hashes_match_their_password_and_no_other() {
    let mut memory = Vec::new();
    for text in DJANGO.iter().chain(&OTHERS) {
        let checked = CheckedHash::new(text, RAISED).unwrap_or_else(|error| panic!("{text} {error}"));
        let stored = secrecy::ExposeSecret::expose_secret(&checked.text);
        assert!(is_imported(stored), "{stored}");
        let hash = ImportedHash::parse(stored, HashLimits::HIGHEST).expect(text);
        assert_eq!(hash.cost(), checked.cost);
        for (password, is_right) in [(PASSWORD, true), ("zażółć gęślą jaź", false), ("", false)] {
            assert_eq!(
                hash.is_of(password.as_bytes(), &mut memory),
                Ok(is_right),
                "{text} {password}"
            );
        }
    }
}

#[test]
fn a_hash_of_ours_is_not_an_imported_one() {
    assert!(!is_imported(
        "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODw"
    ));
}

#[test]
fn bcrypt_reads_72_bytes_of_a_password() {
    // `bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))`, with a cost that an import refuses.
    let text = "$2b$10$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6";
    let mut hash = ImportedHash::parse(text, HashLimits::DEFAULT).expect("a hash");
    hash.method = Method::Bcrypt {
        cost: 4,
        is_prehashed: false,
    };
    let salt: [u8; 16] = hash.salt.clone().try_into().expect("16 bytes");
    hash.output = bcrypt::bcrypt(4, salt, &[b'x'; 72])[..BCRYPT_OUTPUT].to_vec();
    let is_of = |len: usize| hash.is_of(&vec![b'x'; len], &mut Vec::new()).expect("hashed");
    assert!(!is_of(71));
    assert!(is_of(72) && is_of(73) && is_of(400));
}

#[test]
fn every_shortened_or_extended_hash_is_refused_or_does_not_match() {
    for text in DJANGO.iter().chain(&OTHERS) {
        for len in 0..text.len() {
            // A shorter output is a hash as well, unless it is too short to be safe.
            if let Ok(hash) = ImportedHash::parse(&text[..len], RAISED) {
                assert!(hash.output.len() >= 16, "{}", &text[..len]);
            }
        }
        for more in ["$", "$x", " ", "\n", "\0", "ä", "$AAAA"] {
            assert!(
                ImportedHash::parse(&format!("{text}{more}"), RAISED).is_err(),
                "{text}{more}"
            );
        }
        assert!(ImportedHash::parse(&format!(" {text}"), RAISED).is_err());
    }
}

#[test]
fn expensive_hashes_are_refused_by_their_numbers() {
    let salt = "AAECAwQFBgcICQoLDA0ODw";
    let bcrypt = "D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6";
    for (text, words) in [
        (
            format!("$argon2id$v=19$m=65537,t=2,p=1${salt}${salt}"),
            "65537 KiB of argon2 memory (m), and at most 65536",
        ),
        (
            format!("$argon2id$v=19$m=4294967295,t=2,p=1${salt}${salt}"),
            "4294967295 KiB",
        ),
        (
            format!("$argon2id$v=19$m=99999999999999999999,t=2,p=1${salt}${salt}"),
            "4294967295 KiB",
        ),
        (
            format!("$argon2id$v=19$m=8192,t=11,p=1${salt}${salt}"),
            "11 argon2 passes (t), and at most 10",
        ),
        (
            format!("$argon2id$v=19$m=8192,t=2,p=5${salt}${salt}"),
            "5 argon2 lanes (p), and at most 4",
        ),
        (format!("$2b$15${bcrypt}"), "15 as the cost of bcrypt, and at most 14"),
        (format!("$2b$31${bcrypt}"), "31 as the cost of bcrypt"),
        (
            format!("pbkdf2_sha256$2000001${salt}${salt}"),
            "2000001 PBKDF2 iterations, and at most 2000000",
        ),
        (
            format!("pbkdf2_sha256$2147483648${salt}${salt}"),
            "2147483648 PBKDF2 iterations",
        ),
        (
            format!("$pbkdf2-sha512$i=2000001${salt}${salt}"),
            "2000001 PBKDF2 iterations",
        ),
        (
            format!("$scrypt$ln=17,r=8,p=1${salt}${salt}"),
            "134217728 bytes of scrypt memory, and at most 67108864",
        ),
        (
            format!("$scrypt$ln=63,r=4294967295,p=4294967295${salt}${salt}"),
            "bytes of scrypt memory",
        ),
        (
            format!("$scrypt$ln=255,r=8,p=1${salt}${salt}"),
            "bytes of scrypt memory",
        ),
        (
            format!("$scrypt$ln=16,r=8,p=5${salt}${salt}"),
            "335544320 bytes of scrypt memory times p",
        ),
        (format!("scrypt$2147483648${salt}$8$1${salt}"), "bytes of scrypt memory"),
    ] {
        assert!(refusal(&text).contains(words), "{text}: {}", refusal(&text));
    }
    // Costs at the limit are accepted.
    for text in [
        format!("$argon2id$v=19$m=65536,t=10,p=4${salt}${salt}"),
        format!("$2b$14${bcrypt}"),
        format!("pbkdf2_sha256$2000000${salt}${salt}"),
        format!("$scrypt$ln=16,r=8,p=4${salt}${salt}"),
    ] {
        assert!(CheckedHash::new(&text, HashLimits::DEFAULT).is_ok(), "{text}");
    }
    assert!(refusal(DJANGO[5]).contains("102400 KiB"));
}

#[test]
fn weak_hashes_are_refused_by_their_numbers() {
    let salt = "AAECAwQFBgcICQoLDA0ODw";
    let bcrypt = "D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6";
    for (text, words) in [
        (
            format!("pbkdf2_sha256$9999${salt}${salt}"),
            "9999 PBKDF2 iterations, and at least 10000",
        ),
        (format!("$pbkdf2$1${salt}${salt}"), "1 PBKDF2 iterations"),
        (format!("$2b$07${bcrypt}"), "7 as the cost of bcrypt, and at least 8"),
        (
            format!("$scrypt$ln=10,r=8,p=1${salt}${salt}"),
            "1048576 bytes of scrypt memory",
        ),
        (
            format!("$argon2id$v=19$m=256,t=2,p=1${salt}${salt}"),
            "256 KiB of argon2 memory",
        ),
    ] {
        let refusal = refusal(&text);
        assert!(
            refusal.contains("too weak") && refusal.contains(words),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn other_texts_are_refused_without_being_quoted() {
    let salt = "AAECAwQFBgcICQoLDA0ODw";
    for text in [
        "",
        "hunter2",
        "$",
        "$$$$$$$",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "sha1$salt$da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "$1$salt$hash",
        "$6$salt$hash",
        "$2x$10$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6",
        "$2b$1$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6",
        "$2b$+8$D5cXhe/vQ/yKx4/jGv0JceTx2t4KSzrQK5Ga6whWaRl3I4lBBeZB6",
        "bcrypt_sha256$2b$12$O78fX1qmrDrKtH2ABmo5zevCE3AGQnJOUm0cvrUbhjXKuskBuOwPe",
        &format!("pbkdf2_sha256$-1${salt}${salt}"),
        &format!("pbkdf2_sha256$0${salt}${salt}"),
        &format!("pbkdf2_sha256$20000$short${salt}"),
        &format!("pbkdf2_sha256$20000${salt}$AAECAwQF"),
        &format!("$pbkdf2-sha256$i=20000,i=20000${salt}${salt}"),
        &format!("$pbkdf2-sha256$i=20000,l=32${salt}${salt}"),
        &format!("$pbkdf2-sha256$i=20000,x=32${salt}${salt}"),
        &format!("$pbkdf2-sha256$i=20000${salt}${}", "A".repeat(86)),
        &format!("$argon2id$v=20$m=8192,t=2,p=1${salt}${salt}"),
        &format!("$argon2x$v=19$m=8192,t=2,p=1${salt}${salt}"),
        &format!("$argon2id$v=19$m=8192,t=2${salt}${salt}"),
        &format!("$argon2id$v=19$m=8192,t=0,p=1${salt}${salt}"),
        &format!("scrypt$16383${salt}$8$1${salt}"),
        &format!("$scrypt$ln=14,r=0,p=1${salt}${salt}"),
        &"$2b$".repeat(1000),
    ] {
        let refusal = refusal(text);
        assert!(text.is_empty() || !refusal.contains(text), "{refusal}");
        assert!(!refusal.contains(salt), "{refusal}");
    }
}

#[test]
fn a_cost_is_read_as_it_is_written() {
    for text in DJANGO.iter().chain(&OTHERS) {
        let cost = CheckedHash::new(text, RAISED).expect("a hash").cost;
        assert_eq!(cost.to_string().parse(), Ok(cost));
    }
    for text in [
        "",
        "bcrypt",
        "bcrypt:",
        "bcrypt:31",
        "md5:1",
        "argon2:1,2",
        "scrypt:300,8,1",
    ] {
        assert!(text.parse::<Cost>().is_err(), "{text}");
    }
}

#[test]
fn debug_output_hides_the_hash() {
    let checked = CheckedHash::new(DJANGO[0], RAISED).expect("a hash");
    let hash = ImportedHash::parse(DJANGO[0], RAISED).expect("a hash");
    for shown in [format!("{checked:?}"), format!("{hash:?}")] {
        assert!(!shown.contains("mF37") && !shown.contains("R5e6"), "{shown}");
    }
}
