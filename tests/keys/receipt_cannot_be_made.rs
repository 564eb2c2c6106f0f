//! A `Receipt` is cut in one function of `store` and nowhere else.
fn main() {
    let _ = store::Receipt { size: any() };
}

fn any<T>() -> T {
    loop {}
}
