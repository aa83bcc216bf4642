//! What is offered in which state (ST-13…17).

use super::{Settings, State, inline};
use crate::limit;
use crate::ns;
use crate::sasl::Offer;
use crate::xml::Element;

/// Writes `<stream:features/>` for a stream whose header was just answered.
pub(super) fn write(state: State, settings: &Settings, offer: &Offer, out: &mut Vec<u8>) {
    let features = match state {
        State::Plain => {
            vec![Element::new("starttls", ns::TLS).with_child(Element::new("required", ns::TLS))]
        }
        State::Secured => before_login(settings, offer),
        State::Bound | State::Managed => after_binding(state, settings),
        _ => after_login(settings),
    };
    let mut text = String::from("<stream:features>");
    for feature in features {
        feature.write(ns::CLIENT, &mut text);
    }
    text.push_str("</stream:features>");
    out.extend_from_slice(text.as_bytes());
}

fn before_login(settings: &Settings, offer: &Offer) -> Vec<Element> {
    let mut mechanisms = Element::new("mechanisms", ns::SASL);
    for mechanism in offer.mechanisms() {
        mechanisms.push(Element::new("mechanism", ns::SASL).with_text(mechanism.name()));
    }
    let mut authentication = Element::new("authentication", ns::SASL2);
    for mechanism in offer.mechanisms() {
        authentication.push(Element::new("mechanism", ns::SASL2).with_text(mechanism.name()));
    }
    authentication.push(inline::offered(offer, (settings.sm, settings.tokens)));
    if let Some(upgrade) = settings.upgrade {
        authentication.push(upgrade.offered());
    }
    let mut features = vec![mechanisms, authentication];
    let mut bindings = Element::new("sasl-channel-binding", ns::SASL_CB);
    for kind in offer.binding_types() {
        let binding = Element::new("channel-binding", ns::SASL_CB);
        bindings.push(binding.with_attr("type", kind.name()));
    }
    if bindings.elements().next().is_some() {
        features.push(bindings);
    }
    if settings.registration {
        features.push(Element::new("register", ns::REGISTER_FEATURE));
        features.push(Element::new("register", ns::IBR_TOKEN));
    }
    features.push(limits(limit::STANZA_BYTES_BEFORE_AUTH, settings));
    features
}

fn after_login(settings: &Settings) -> Vec<Element> {
    let optional = Element::new("optional", ns::SESSION);
    let mut features = vec![
        Element::new("bind", ns::BIND),
        Element::new("session", ns::SESSION).with_child(optional),
    ];
    if settings.sm {
        features.push(Element::new("sm", ns::SM));
    }
    features.extend(always(settings));
    features
}

/// What is left to be offered to a client that has bound its resource along with its login (SA-7).
fn after_binding(state: State, settings: &Settings) -> Vec<Element> {
    let mut features = Vec::new();
    if settings.sm && state == State::Bound {
        features.push(Element::new("sm", ns::SM));
    }
    features.extend(always(settings));
    features
}

fn always(settings: &Settings) -> Vec<Element> {
    let mut features = vec![Element::new("csi", ns::CSI)];
    features.push(Element::new("ver", ns::ROSTERVER));
    features.push(Element::new("sub", ns::PREAPPROVAL));
    features.push(limits(settings.max_stanza_bytes, settings));
    features.extend(settings.features.iter().cloned());
    features
}

/// The limits of XEP-0478 (ST-89).
fn limits(max_bytes: usize, settings: &Settings) -> Element {
    let number =
        |name: &'static str, value: String| Element::new(name, ns::LIMITS).with_text(&value);
    let limits = Element::new("limits", ns::LIMITS);
    let limits = limits.with_child(number("max-bytes", max_bytes.to_string()));
    match settings.idle_seconds {
        Some(seconds) => limits.with_child(number("idle-seconds", seconds.to_string())),
        None => limits,
    }
}
