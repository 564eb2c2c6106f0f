//! A clearance is for one commit.
async fn commit_two(
    one: store::Sealed,
    two: store::Sealed,
    cleared: access::Cleared,
    again: store::AskAgain,
    metadata: model::Metadata,
    now: model::Timestamp,
) {
    let _ = one.commit(cleared, again.clone(), metadata.clone(), now).await;
    let _ = two.commit(cleared, again, metadata, now).await;
}

fn main() {}
