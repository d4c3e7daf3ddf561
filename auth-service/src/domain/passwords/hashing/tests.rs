//! Tests of the pool.

use std::time::Duration;

use super::*;
use crate::domain::passwords::{
    imported::{Cost, ImportedHash},
    low_priority::NICENESS,
};

const CHEAP: HashingSettings = HashingSettings {
    workers: 1,
    queue: 1,
    memory_kib: 8,
    passes: 1,
};

fn password(text: &str) -> Password {
    Password::presented(text).expect("a good password")
}

#[tokio::test]
async fn right_and_wrong_passwords_are_distinguished() {
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let hash = pool
        .hash(&Client::Own, password("correct horse"), "password")
        .await
        .expect("hashed");
    let verdict = async |text, stored| {
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        pool.verify(permit, password(text), stored).await.expect("verified")
    };
    assert_eq!(
        verdict("correct horse", Stored::User(hash.clone())).await,
        Verdict::Right
    );
    assert_eq!(
        verdict("correct horse", Stored::Barred(hash.clone())).await,
        Verdict::Right
    );
    assert_eq!(verdict("wrong horse", Stored::User(hash)).await, Verdict::Wrong);
    assert_eq!(verdict("nobody's", Stored::Nobody).await, Verdict::Wrong);
}

#[tokio::test]
async fn hashing_threads_run_at_low_priority() {
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let niceness = || -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
        // The 17th field after the name in parentheses.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let field = rest.split_whitespace().nth(16).expect("many fields");
        field.parse().expect("a number")
    };
    let (sender, nice) = oneshot::channel();
    let job = Box::new(move |_: &mut Vec<Block>| sender.send(niceness()).expect("the test waits"));
    pool.threads.send(job).expect("a thread");
    assert_eq!(nice.await.expect("an answer"), NICENESS);
}

#[tokio::test]
async fn a_panicking_job_does_not_end_its_thread() {
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let permit = pool.permit(&Client::Own).await.expect("a turn");
    let panicked = pool.run::<()>(permit, |_, _| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(Error::Internal(_))));
    pool.hash(&Client::Own, password("correct horse"), "password")
        .await
        .expect("the only thread goes on");
}

#[tokio::test]
async fn a_hash_with_other_parameters_is_outdated() {
    let old = HashingPool::new(CHEAP).expect("good settings");
    let new = HashingPool::new(HashingSettings { passes: 2, ..CHEAP }).expect("good settings");
    let hash = old
        .hash(&Client::Own, password("correct horse"), "password")
        .await
        .expect("hashed");
    let permit = new.permit(&Client::Own).await.expect("a turn");
    let verdict = new
        .verify(permit, password("correct horse"), Stored::User(hash))
        .await
        .expect("verified");
    assert_eq!(verdict, Verdict::RightButOutdated);
}

#[tokio::test]
async fn an_imported_hash_is_verified_and_then_outdated() {
    // Made by Django:
    // `PBKDF2PasswordHasher().encode("zażółć gęślą jaźń", "saltsaltsalt", iterations=10000)`
    let hash = "pbkdf2_sha256$10000$saltsaltsalt$B7SMkouvDBcKdr1WfPyn+2JGT+RjJTqm0g/VaV97lcs=";
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let verdict = async |text, hash: &str| {
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        let stored = Stored::User(SecretString::from(hash));
        pool.verify(permit, password(text), stored).await
    };
    let right = verdict("zażółć gęślą jaźń", hash).await.expect("verified");
    assert_eq!(right, Verdict::RightButOutdated);
    let wrong = verdict("correct horse", hash).await.expect("verified");
    assert_eq!(wrong, Verdict::Wrong);
    // A corrupt row is an error, and its hash does not get into the log.
    let error = verdict("correct horse", &hash[..50]).await.expect_err("corrupt");
    assert!(!error.to_string().contains("salt"), "{error}");
}

#[tokio::test]
async fn refusals_take_as_long_as_the_slowest_expected_hash() {
    const SLOW: Cost = Cost::Bcrypt { cost: 10 };
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let hash = pool.hash(&Client::Own, password("correct horse"), "password");
    let hash = hash.await.expect("hashed");
    let time = async |text, stored| {
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        let start = Instant::now();
        pool.verify(permit, password(text), stored).await.expect("verified");
        start.elapsed()
    };
    pool.expect(&[SLOW, Cost::Bcrypt { cost: 4 }]).await.expect("measured");
    let mut memory = Vec::new();
    let start = processor_time();
    ImportedHash::random(SLOW)
        .is_of(b"password", &mut memory)
        .expect("hashed");
    let slow = processor_time().saturating_sub(start).mul_f64(0.6);
    // Time on a busy machine passes more quickly than its processors work, never more slowly.
    assert!(time("wrong horse", Stored::User(hash.clone())).await > slow);
    assert!(time("wrong horse", Stored::Nobody).await > slow);
    assert!(time("correct horse", Stored::Barred(hash.clone())).await > slow);
    // Without imported hashes, a refusal takes no longer than one of our hashes.
    pool.expect(&[]).await.expect("nothing to measure");
    let (mut shortest, mut tries) = (Duration::MAX, 0);
    while shortest > slow && tries < 20 {
        shortest = shortest.min(time("wrong horse", Stored::User(hash.clone())).await);
        tries += 1;
    }
    assert!(shortest < slow, "{shortest:?}");
}

/// Users whom an import gave no password have a hash with default parameters, and others one from
/// before the parameters were raised.
#[tokio::test]
async fn a_refusal_of_a_cheaper_hash_takes_as_long_as_one_of_ours() {
    let pool = HashingPool::new(HashingSettings {
        memory_kib: 8192,
        passes: 4,
        ..CHEAP
    });
    let pool = pool.expect("good settings");
    let cheaper = HashingPool::new(CHEAP)
        .expect("good settings")
        .unusable()
        .expect("a hash");
    let refused = async |stored| {
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        let start = Instant::now();
        let verdict = pool.verify(permit, password("wrong horse"), stored).await;
        assert_eq!(verdict.expect("verified"), Verdict::Wrong);
        start.elapsed()
    };
    // The first refusal of the process, too.
    let first = refused(Stored::User(cheaper.clone())).await;
    let mut memory = Vec::new();
    let start = processor_time();
    ImportedHash::random(cost_of(pool.argon2.params()))
        .is_of(b"password", &mut memory)
        .expect("hashed");
    let ours = processor_time().saturating_sub(start).mul_f64(0.6);
    assert!(first > ours, "{first:?} instead of {ours:?}");
    for imported in [&[] as &[Cost], &[Cost::Bcrypt { cost: 4 }]] {
        pool.expect(imported).await.expect("measured");
        for stored in [
            Stored::Nobody,
            Stored::User(cheaper.clone()),
            Stored::Barred(cheaper.clone()),
        ] {
            let time = refused(stored).await;
            assert!(time > ours, "{time:?} instead of {ours:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_is_not_hashed() {
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let (end, ended) = mpsc::channel::<()>();
    let permit = async || pool.permit(&Client::Own).await.expect("a turn");
    let mut running = Box::pin(pool.run(permit().await, move |_, _| ended.recv().is_err()));
    let (hashed, mut has_hashed) = oneshot::channel();
    let hash = pool.run(permit().await, move |_, _| hashed.send(()));
    // Both jobs have been sent to the thread now.
    assert!(futures_util::poll!(&mut running).is_pending());
    assert!(tokio::time::timeout(Duration::ZERO, hash).await.is_err());
    drop(end);
    assert!(running.await.expect("no panic"));
    // The thread and both places are free for the next hash.
    pool.hash(&Client::Own, password("correct horse"), "password")
        .await
        .expect("hashed");
    assert!(has_hashed.try_recv().is_err());
    assert_eq!(pool.queue.free_places(), 2);
}

#[tokio::test]
async fn a_hash_is_refused_if_the_queue_is_full() {
    let pool = HashingPool::new(CHEAP).expect("good settings");
    let (end, ended) = mpsc::channel::<()>();
    let running = tokio::spawn({
        let pool = pool.clone();
        let permit = pool.permit(&Client::Own).await.expect("a turn");
        async move { pool.run(permit, move |_, _| ended.recv().is_err()).await }
    });
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.hash(&Client::Own, password("correct horse"), "password").await }
    });
    while pool.queue.free_places() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        pool.hash(&Client::Own, password("correct horse"), "password").await,
        Err(Error::HashingQueueFull(_))
    ));
    drop(end);
    assert!(running.await.expect("joined").expect("no panic"));
    waiting.await.expect("joined").expect("hashed once there was a worker");
}
