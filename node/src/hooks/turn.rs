//! How long a hook takes: most have nothing to do most of the time.

use std::future::{Ready, ready};

use futures_util::future::{BoxFuture, Either};

/// The answer of a hook. What is known at once costs no more than a call.
pub type Turn<'a, T> = Either<Ready<T>, BoxFuture<'a, T>>;

/// What is known at once.
pub fn at_once<T>(answer: T) -> Turn<'static, T> {
    Either::Left(ready(answer))
}

/// What has to be waited for.
pub fn later<'a, T>(answer: impl Future<Output = T> + Send + 'a) -> Turn<'a, T> {
    Either::Right(Box::pin(answer))
}
