//! The rows S and E of docs/threats.md against the real binary: who pretends to be somebody else, and who tries to get more than
//! he was given. The page names the tests of the other rows, and `.ci/threats` checks that each exists.

mod borrowed;
mod confinement;
mod downgrade;
mod forge;
mod hello;
mod injection;
mod likeness;
mod recorded;
mod stolen_key;
mod supply;
mod told;

use testkit::house::House;

use crate::support::house;

/// A house whose gateway.toml has further text at the beginning of these sections, and an empty deny-list if one of them asks
/// for it.
fn house_configured(sections: &[(&str, &str)]) -> House {
    let house = house();
    std::fs::write(house.dir().join("denied.toml"), "").expect("ours");
    let path = house.dir().join("gateway.toml");
    let mut text = std::fs::read_to_string(&path).expect("dev has written it");
    for (section, keys) in sections {
        assert!(text.contains(section), "{section} is there");
        text = text.replacen(section, &format!("{section}\n{keys}"), 1);
    }
    std::fs::write(&path, text).expect("ours");
    house.restart()
}
