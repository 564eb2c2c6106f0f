//! C-STORE-RSP 0000 is written by showing a `Receipt`, and by nothing else.
fn say_success(association: &mut dimse::Association<store::Receipt>, request: dimse::StoreRequest) {
    association.stored(request, ());
}

fn main() {}
