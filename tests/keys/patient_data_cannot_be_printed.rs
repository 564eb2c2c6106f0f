//! What is patient data has no `Display`: it cannot slip into a log line or an error text.
fn main() {
    println!("{}", model::Phi::new("DOE^JANE"));
}
