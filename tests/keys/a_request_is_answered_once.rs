//! A request is consumed by answering it.
fn answer_twice(association: &mut dimse::Association<store::Receipt>, request: dimse::StoreRequest, receipt: store::Receipt) {
    association.stored(request, receipt);
    association.stored(request, todo!());
}

fn main() {}
