use std::fmt;

/// Patient data: its `Debug` shows nothing and it has no `Display`, so it cannot slip into a log line, an error or a panic.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks a value as patient data.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Takes the value out, on purpose: for the index, and for the person who asked to see the archive.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// As [`Phi::reveal`], by value.
    pub fn into_revealed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Phi::new("DOE^JANE")), "Phi(…)");
    }
}
