//! Where statements of SQLite run: on the thread that asks for them.
//!
//! On a thread for what blocks, each statement would wake that thread, and its end this one. What waits for the disk or may read much does so
//! [announced](Waiting): the runtime then gets another thread in the place of this one.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::future::{BoxFuture, FutureExt as _};
use pin_project_lite::pin_project;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Runs statements where they are called.
#[derive(Clone, Copy, Debug)]
pub struct InPlace;

impl SpawnBlocking for InPlace {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        async move { Ok(task()) }.boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

pin_project! {
    /// A statement that may take long, or not.
    pub(super) struct Waiting<F> {
        #[pin]
        statement: F,
        is_long: bool,
    }
}

impl<F> Waiting<F> {
    pub(super) const fn new(statement: F, is_long: bool) -> Self {
        Self { statement, is_long }
    }
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if *this.is_long {
            waiting(|| this.statement.poll(cx))
        } else {
            this.statement.poll(cx)
        }
    }
}

/// Runs what waits for the disk, or may take long.
pub(super) fn waiting<R>(task: impl FnOnce() -> R) -> R {
    // A runtime of one thread has nothing that could take its place.
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return task();
    }
    block_in_place(task)
}
