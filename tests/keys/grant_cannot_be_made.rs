//! A `Grant` is cut in one function of `access` and nowhere else.
fn main() {
    let _ = access::Grant { row: any() };
}

fn any<T>() -> T {
    loop {}
}
