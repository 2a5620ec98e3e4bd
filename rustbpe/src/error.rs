//! What can be wrong with a caller's input, each with its remedy.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No pre-token pattern has this name.
    UnknownPattern { name: String },
    /// No rule for ties has this name.
    UnknownTies { name: String },
    /// There is no text to learn from.
    EmptyCorpus,
    /// The distinct pre-tokens need more positions than 32 bits hold.
    CorpusTooLarge { bytes: usize },
    /// A merge names an id that does not exist yet, or a pair that was merged before.
    BadMerge { index: usize, left: u32, right: u32 },
    /// The tokens' bytes exceed what a sensible vocabulary needs by far.
    VocabularyTooLarge { tokens: usize },
    /// A pre-token whose places 32-bit numbers cannot count.
    PretokenTooLong { bytes: usize },
    /// An id beyond the vocabulary.
    BadId { index: usize, id: u32, vocab_size: usize },
    /// An order of the bytes that lacks some.
    BadByteOrder,
    /// An Arrow array of something else than strings and binaries.
    TextType { name: String },
    /// An Arrow array of which some rows hold no text.
    Nulls { nulls: usize },
    /// A row of an Arrow array that does not lie inside the array's data.
    BadOffsets { index: usize },
    /// An Arrow array or stream that breaks the C data interface, or a stream that failed.
    BadArrow { reason: String },
    /// An array that is shorter or longer than the others and the settings say.
    BadLength { array: &'static str, got: usize, expected: usize },
    /// Codes of a number of bits for which there is no packing, or blocks that do not end with a byte.
    BadBlock { bits: u32, block: usize },
    /// Chunks of a size for which there are no indices, or none or too many of their numbers.
    BadChunk { chunk: usize, k: usize },
    /// An index of a chunk's numbers that is outside it, or not above the one before.
    BadIndex { index: usize, least: usize, numbers: usize },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPattern { name } => {
                let known: Vec<&str> = crate::split::Pattern::NAMES.iter().map(|(name, _)| *name).collect();
                write!(f, "tokenizer.pattern={name:?} is not known; use one of: {}", known.join(", "))
            }
            Self::UnknownTies { name } => {
                let known: Vec<&str> = crate::train::Ties::NAMES.iter().map(|(name, _)| *name).collect();
                write!(f, "tokenizer.ties={name:?} is not known; use one of: {}", known.join(", "))
            }
            Self::EmptyCorpus => {
                write!(
                    f,
                    "the corpus holds no text, so there is nothing to merge; pass at least one text that is not empty"
                )
            }
            Self::CorpusTooLarge { bytes } => write!(
                f,
                "the distinct pre-tokens of the corpus take {bytes} bytes, above the limit of {}; train on fewer texts",
                crate::text::MAX_POSITIONS
            ),
            Self::BadMerge { index, left, right } => write!(
                f,
                "merge {index} joins the ids {left} and {right}, which do not exist yet or are joined twice; take the \
                 merges in the order in which they were trained"
            ),
            Self::VocabularyTooLarge { tokens } => write!(
                f,
                "the first {tokens} tokens take more than {} bytes or are more than {}; train fewer merges, or remove \
                 runs of one repeated character from the corpus",
                crate::encode::MAX_VOCABULARY_BYTES,
                crate::merge::MAX_VOCABULARY
            ),
            Self::PretokenTooLong { bytes } => {
                write!(f, "a text holds {bytes} bytes without a break; cut it into texts of less than 1 GB")
            }
            Self::BadId { index, id, vocab_size } => write!(
                f,
                "id {id} at position {index} is outside the vocabulary of {vocab_size}; pass ids that this tokenizer made"
            ),
            Self::BadByteOrder => {
                write!(
                    f,
                    "byte_order does not hold each of the 256 bytes once; pass all of them, in the order of their ids"
                )
            }
            Self::TextType { name } => write!(f, "texts has the Arrow type {name}; pass strings or binaries"),
            Self::Nulls { nulls } => {
                write!(f, "texts holds {nulls} nulls; take them out with drop_null() or fill_null('')")
            }
            Self::BadOffsets { index } => write!(
                f,
                "text {index} of an Arrow array does not lie inside the array's data; check what made it with \
                 validate(full=True)"
            ),
            Self::BadArrow { reason } => {
                write!(f, "texts cannot be read through the Arrow C data interface ({reason}); check what made it")
            }
            Self::BadLength { array, got, expected } => {
                write!(f, "the length of {array} must be {expected}, got {got}; pass arrays that fit each other")
            }
            Self::BadBlock { bits, block } => {
                write!(f, "bits must be 2, 4 or 8 and block fill whole bytes, got {bits} and {block}; change either")
            }
            Self::BadChunk { chunk, k } => write!(
                f,
                "chunk must be a power of two up to 65536 and k from 1 to chunk, got {chunk} and {k}; change either one"
            ),
            Self::BadIndex { index, least, numbers } => write!(
                f,
                "an index in a chunk of {numbers} numbers must be >= {least} here and < {numbers}, got {index}; encode \
                 the update again"
            ),
        }
    }
}

impl std::error::Error for Error {}
