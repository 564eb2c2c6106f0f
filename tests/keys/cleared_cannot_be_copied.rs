//! One check gives one `Cleared`.
fn copy(key: access::Cleared) -> (access::Cleared, access::Cleared) {
    (key.clone(), key)
}

fn main() {}
