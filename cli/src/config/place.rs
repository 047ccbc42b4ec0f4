//! Places in a file, for errors.

/// Where in a file something is written, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// Of an octet of a text; columns are counted in characters.
    pub(super) fn of(text: &str, octet: usize) -> Self {
        let before = text.get(..octet).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        Self { line: before.matches('\n').count() + 1, column: column + 1 }
    }
}

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub place: Place,
}
