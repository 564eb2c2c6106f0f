//! One check gives one `Permit`.
fn copy(key: access::Permit) -> (access::Permit, access::Permit) {
    (key.clone(), key)
}

fn main() {}
