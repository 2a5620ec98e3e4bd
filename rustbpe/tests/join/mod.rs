//! One merge, by the book.

pub type Pair = (u32, u32);

/// Every place of `pair`, from the left, as `new`.
pub fn join(tokens: &[u32], pair: Pair, new: u32) -> Vec<u32> {
    let mut joined = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let here = at + 1 < tokens.len() && (tokens[at], tokens[at + 1]) == pair;
        joined.push(if here { new } else { tokens[at] });
        at += if here { 2 } else { 1 };
    }
    joined
}
