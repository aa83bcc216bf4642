//! What services may attach, and what stops the start.

use super::*;
use crate::hooks::{Empty, Request};

struct Probe;

impl Payload for Probe {
    const NS: &'static str = "urn:example:probe";
    const NAME: &'static str = "probe";

    fn decode(_: &Element) -> Result<Self, StanzaError> {
        Ok(Self)
    }
}

async fn answer(_: Request<Probe>) -> Result<Empty, StanzaError> {
    Ok(Empty)
}

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Host], answer);
}

#[test]
fn a_payload_is_announced_where_it_is_answered() {
    let registry =
        Registry::new(&[Service::new("one", &[], register)], &Config::default()).unwrap();
    assert!(
        registry
            .features()
            .of(Scope::Host)
            .eq(["urn:example:probe"])
    );
    assert_eq!(registry.features().of(Scope::Account).count(), 0);
}

#[test]
fn a_second_handler_for_a_payload_stops_the_start() {
    let twice = [
        Service::new("one", &[], register),
        Service::new("two", &[], register),
    ];
    assert_eq!(
        Registry::new(&twice, &Config::default())
            .err()
            .map(|clash| clash.service),
        Some("two")
    );
}
