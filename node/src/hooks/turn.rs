//! The turn that a hook has with a stanza, and how long it takes: most have nothing to do most of the time.

use std::future::{Ready, ready};

use futures_util::future::{BoxFuture, Either};
use proto::stanza::error::StanzaError;

use super::sender::Sender;

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

/// Has a turn with each `T`: a message, or presence that is broadcast or requests something. A function that takes the
/// same is one, too.
///
/// Every stanza of its kind comes here: what is no concern of the hook should be over without a wait.
pub trait Hook<T>: Send + Sync + 'static {
    /// Looks at it; an error refuses it.
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        subject: &'a mut T,
    ) -> Turn<'a, Result<(), StanzaError>>;
}

impl<T, F> Hook<T> for F
where
    F: Send + Sync + 'static,
    F: for<'a> Fn(Sender<'a>, &'a mut T) -> Turn<'a, Result<(), StanzaError>>,
{
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        subject: &'a mut T,
    ) -> Turn<'a, Result<(), StanzaError>> {
        self(sender, subject)
    }
}
