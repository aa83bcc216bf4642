//! Why two nodes are not connected, and who has to hear of it.

use std::io;

use super::frame::FrameError;
use super::hello::HelloError;
use super::tls::{AuthError, hangs_up};
use crate::codec::CodecError;
use crate::format::Version;

/// Why a connection ended or never came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a malformed greeting: {0}")]
    Greeting(#[from] CodecError),
    #[error("a frame of format {0}, which this node does not read")]
    Version(Version),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer is silent")]
    Silent,
    /// The accepting side does not say why it refuses, but it knows from the greeting who called.
    #[error(
        "another process fills its seat: two nodes have the same cluster.node_id, or one has just been replaced"
    )]
    Filled,
    #[error(
        "it hangs up on our greeting; its log says why: most likely another process has this node's seat (cluster.node_id)"
    )]
    TurnedAway,
}

impl Lost {
    /// Whether the peer had its time to answer and was silent.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent)
    }

    /// Whether an operator has to act, because a peer is there that this node refuses. A connection that was merely
    /// closed could have been anybody's.
    pub(super) fn is_refusal_of_ours(&self) -> bool {
        match self {
            Self::Io(_)
            | Self::Closed
            | Self::Silent
            | Self::TurnedAway
            | Self::Hello(HelloError::Myself) => false,
            Self::Auth(AuthError::Io(error)) => error.kind() == io::ErrorKind::InvalidData,
            Self::Auth(_)
            | Self::Frame(_)
            | Self::Greeting(_)
            | Self::Version(_)
            | Self::Hello(_)
            | Self::Filled => true,
        }
    }

    /// The same error, for a peer that has sent its greeting.
    pub(super) fn by_greeting(self) -> Self {
        match self {
            Self::Closed => Self::TurnedAway,
            Self::Io(error) if hangs_up(&error) => Self::TurnedAway,
            other => other,
        }
    }

    /// Whether the peer is answered although it is refused: it can do something about it, or it is this node, which has
    /// to learn that an address is its own.
    pub(super) fn is_told(&self) -> bool {
        matches!(
            self,
            Self::Hello(HelloError::Versions { .. } | HelloError::Myself)
        ) || self.is_of_the_replaced()
    }

    /// Whether the peer was refused because it is no longer a member.
    pub(super) fn is_of_the_replaced(&self) -> bool {
        matches!(self, Self::Hello(HelloError::Retired(_)))
    }

    /// Whether nobody listens at the peer's address: its process is gone.
    pub(super) fn is_refusal(&self) -> bool {
        let (Self::Io(error) | Self::Auth(AuthError::Io(error))) = self else {
            return false;
        };
        error.kind() == io::ErrorKind::ConnectionRefused
    }
}
