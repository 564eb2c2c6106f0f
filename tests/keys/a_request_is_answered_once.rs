//! A request is consumed by answering it.
fn answer_twice(
    association: &mut dimse::Association<store::Receipt>,
    request: dimse::StoreRequest,
    receipts: [store::Receipt; 2],
) {
    let [one, two] = receipts;
    association.stored(request, one);
    association.stored(request, two);
}

fn main() {}
