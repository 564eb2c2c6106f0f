//! A `Cleared` is cut in one function of `access` and nowhere else.
fn main() {
    let _ = access::Cleared { revision: any() };
}

fn any<T>() -> T {
    loop {}
}
