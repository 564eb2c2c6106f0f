//! A clearance is for one commit.
async fn commit_two(
    one: store::Sealed,
    two: store::Sealed,
    cleared: access::Cleared,
    metadata: model::Metadata,
    now: model::Timestamp,
) {
    let _ = one.commit(cleared, metadata.clone(), now).await;
    let _ = two.commit(cleared, metadata, now).await;
}

fn main() {}
