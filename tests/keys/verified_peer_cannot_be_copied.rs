//! One check gives one `VerifiedPeer`.
fn copy(key: access::VerifiedPeer) -> (access::VerifiedPeer, access::VerifiedPeer) {
    (key.clone(), key)
}

fn main() {}
