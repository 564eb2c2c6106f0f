//! A `AuthorisedInstance` is cut in one function of `access` and nowhere else.
fn main() {
    let _ = access::AuthorisedInstance { row: any() };
}

fn any<T>() -> T {
    loop {}
}
