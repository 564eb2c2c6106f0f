//! A `Permit` is cut in one function of `access` and nowhere else.
fn main() {
    let _ = access::Permit { claim: any() };
}

fn any<T>() -> T {
    loop {}
}
