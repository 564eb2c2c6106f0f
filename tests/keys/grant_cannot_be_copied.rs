//! One check gives one `Grant`.
fn copy(key: access::Grant) -> (access::Grant, access::Grant) {
    (key.clone(), key)
}

fn main() {}
