//! A block of properties for any packet: what is accepted is read whole and survives copying, and what is not does no
//! harm where it is taken on trust.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::mqtt::property::Place;
use mosquitto::mqtt::{Properties, PropertiesBuilder, Property, PropertyId};

const PLACES: [Place; 9] = [
    Place::Connect,
    Place::Will,
    Place::Connack,
    Place::Publish,
    Place::Ack,
    Place::Subscribe,
    Place::Unsubscribe,
    Place::Disconnect,
    Place::Auth,
];

fuzz_target!(|raw: &[u8]| {
    let trusted = Properties::trusted(raw);
    let readable = trusted.iter().count();
    for place in PLACES {
        if let Ok(checked) = Properties::check(raw, place) {
            assert_eq!(checked.iter().count(), readable);
            check(checked, place);
        }
    }
    // A block that another process spoilt: what can be read of it is copied, and no more.
    let mut copy = PropertiesBuilder::default();
    copy.push_all_but(trusted, PropertyId::UserProperty);
    assert!(copy.as_properties().raw().len() <= raw.len());
    copy.clear();
    copy.push_all_with_expiry(trusted, 1);
    assert!(copy.as_properties().iter().count() >= readable);
});

fn check(block: Properties<'_>, place: Place) {
    let mut copy = PropertiesBuilder::default();
    for property in block.iter() {
        copy.push(property);
    }
    let again = Properties::check(copy.as_properties().raw(), place).expect("a copy is as good");
    assert!(again.iter().eq(block.iter()));
    let mut without = PropertiesBuilder::default();
    without.push_all_but(block, PropertyId::UserProperty);
    let others = |p: &Property<'_>| p.id() != PropertyId::UserProperty;
    assert!(
        without
            .as_properties()
            .iter()
            .eq(block.iter().filter(others))
    );
    for id in block.iter().map(|p| p.id()) {
        assert!(block.find(id).is_some_and(|found| found.id() == id));
    }
}
