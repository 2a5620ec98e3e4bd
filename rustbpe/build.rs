//! Writes the table of character classes: two levels, 256 code points a page, equal pages stored once.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use regex_syntax::hir::{Class, HirKind};

const CODE_POINTS: usize = 0x11_0000;
const PAGE: usize = 256;

/// The class numbers of `split.rs`; a character in none of the patterns is 0, "other".
const CLASSES: [(&str, u8); 4] = [(r"\s", 3), (r"[\r\n]", 4), (r"\p{L}", 1), (r"\p{N}", 2)];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut classes = vec![0u8; CODE_POINTS];
    for (pattern, class) in CLASSES {
        let HirKind::Class(Class::Unicode(set)) = regex_syntax::parse(pattern)?.into_kind() else {
            return Err(format!("{pattern} is not a class of characters").into());
        };
        for range in set.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }

    let mut numbers = HashMap::new();
    let mut pages: Vec<&[u8]> = Vec::new();
    let index: Vec<usize> = classes
        .chunks(PAGE)
        .map(|page| {
            *numbers.entry(page).or_insert_with(|| {
                pages.push(page);
                pages.len() - 1
            })
        })
        .collect();

    let mut code = String::new();
    writeln!(code, "pub static PAGE_OF: [u8; {}] = {index:?};", index.len())?;
    writeln!(code, "pub static PAGES: [[u8; {PAGE}]; {}] = {pages:?};", pages.len())?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("classes.rs"), code)?;
    Ok(())
}
