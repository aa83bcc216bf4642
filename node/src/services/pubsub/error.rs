//! How requests about nodes are refused (XEP-0060 §12).

use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};

fn with(condition: Condition, detail: &'static str) -> StanzaError {
    StanzaError::new(condition).with_application(Element::new(detail, ns::PUBSUB_ERRORS))
}

/// Something that is said in this way is malformed.
pub fn bad_request(detail: &'static str) -> StanzaError {
    with(Condition::BadRequest, detail)
}

/// There is no such node or item.
pub fn not_found() -> StanzaError {
    StanzaError::new(Condition::ItemNotFound)
}

/// Only the account itself may do that (PE-2, PE-14).
pub fn forbidden() -> StanzaError {
    StanzaError::new(Condition::Forbidden)
}

/// The node is not as the publisher wants it to be (PE-4).
pub fn precondition_not_met() -> StanzaError {
    with(Condition::Conflict, "precondition-not-met")
}

/// The payload has more bytes than one may have (PE-16).
pub fn payload_too_big() -> StanzaError {
    with(Condition::NotAcceptable, "payload-too-big")
}

/// More than one item at a time.
pub fn max_items_exceeded() -> StanzaError {
    with(Condition::NotAllowed, "max-items-exceeded")
}

/// Whoever asks does not see the account's presence (PE-13).
pub fn presence_required() -> StanzaError {
    with(Condition::NotAuthorized, "presence-subscription-required")
}

/// Whoever asks is in none of the groups (PE-13).
pub fn not_in_group() -> StanzaError {
    with(Condition::NotAuthorized, "not-in-roster-group")
}

/// Whoever asks is not on the list (PE-13).
pub fn closed_node() -> StanzaError {
    with(Condition::NotAllowed, "closed-node")
}

/// There is no such subscription (PE-11).
pub fn not_subscribed() -> StanzaError {
    with(Condition::UnexpectedRequest, "not-subscribed")
}

/// A value that a node cannot have.
pub fn not_acceptable() -> StanzaError {
    StanzaError::new(Condition::NotAcceptable)
}

/// A part of XEP-0060 that accounts do not have (PE-16).
pub fn unsupported(feature: &'static str) -> StanzaError {
    let detail = Element::new("unsupported", ns::PUBSUB_ERRORS).with_attr("feature", feature);
    StanzaError::new(Condition::FeatureNotImplemented).with_application(detail)
}
