//! Tests of the calls that are refused in silence.

use std::time::Duration;

use clap::Parser as _;

use crate::view::{OnSilence, SilenceRule, SilenceSettings};

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    settings: SilenceSettings,
}

fn rule(arguments: &[&str]) -> SilenceRule {
    let arguments = ["service"].iter().chain(arguments);
    Cli::try_parse_from(arguments).expect("good arguments").settings.rule()
}

#[test]
fn by_default_silence_refuses_writes_but_not_reads() {
    assert_eq!(rule(&[]), SilenceRule::default());
    let (short, long) = (Duration::from_secs(5), Duration::from_millis(5_001));
    let default = SilenceRule::default();
    assert!(!default.refuses(short, false) && !default.refuses(short, true));
    assert!(default.refuses(long, false) && !default.refuses(long, true));
    let turned = rule(&[
        "--access-feed-silence-seconds=9",
        "--access-feed-silence-reads=refuse",
        "--access-feed-silence-writes=allow",
    ]);
    assert_eq!((turned.reads, turned.writes), (OnSilence::Refuse, OnSilence::Allow));
    assert!(!turned.refuses(Duration::from_secs(9), true) && turned.refuses(Duration::from_secs(10), true));
    assert!(!turned.refuses(Duration::from_hours(1), false));
}
