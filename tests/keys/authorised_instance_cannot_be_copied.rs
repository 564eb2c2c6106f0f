//! One check gives one `AuthorisedInstance`.
fn copy(key: access::AuthorisedInstance) -> (access::AuthorisedInstance, access::AuthorisedInstance) {
    (key.clone(), key)
}

fn main() {}
