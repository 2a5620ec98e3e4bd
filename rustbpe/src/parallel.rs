//! Shares texts out to threads in pieces whose pre-tokens do not depend on where they were cut.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Texts longer than this are cut, and shorter ones go to a thread together.
const JOB_BYTES: usize = 1 << 17;

/// A part of the text number `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub text: usize,
    pub bytes: &'a [u8],
}

/// All texts as pieces, in order; an empty text is one empty piece.
pub fn pieces<'a>(texts: &[&'a [u8]]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::with_capacity(texts.len());
    for (text, &whole) in texts.iter().enumerate() {
        let mut rest = whole;
        while let Some(cut) = safe_cut(rest) {
            let (bytes, tail) = rest.split_at(cut);
            pieces.push(Piece { text, bytes });
            rest = tail;
        }
        pieces.push(Piece { text, bytes: rest });
    }
    pieces
}

/// A place beyond `JOB_BYTES` between an ASCII letter and a space or newline. Every alternative of the pattern that
/// takes a letter ends inside that letter's run, so that a pre-token always ends there.
fn safe_cut(text: &[u8]) -> Option<usize> {
    let tail = text.get(JOB_BYTES..)?;
    tail.windows(2)
        .position(|pair| pair[0].is_ascii_alphabetic() && matches!(pair[1], b' ' | b'\n'))
        .map(|at| JOB_BYTES + at + 1)
}

/// Runs of pieces of about `JOB_BYTES` each.
pub fn jobs(pieces: &[Piece<'_>]) -> Vec<Range<usize>> {
    let mut jobs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, piece) in pieces.iter().enumerate() {
        bytes += piece.bytes.len().max(1);
        if bytes >= JOB_BYTES {
            jobs.push(start..at + 1);
            (start, bytes) = (at + 1, 0);
        }
    }
    if start < pieces.len() {
        jobs.push(start..pieces.len());
    }
    jobs
}

/// `work` on every job, one thread for each of `states`, which it may use as its own. Results in the order of the jobs.
pub fn share<State: Send, Job: Sync, Out: Send>(
    states: &mut [State],
    jobs: &[Job],
    work: impl Fn(&mut State, &Job) -> Out + Sync,
) -> Vec<Out> {
    let threads = states.len().min(jobs.len());
    if let [state] = &mut states[..threads] {
        return jobs.iter().map(|job| work(state, job)).collect();
    }
    let next = AtomicUsize::new(0);
    let take = |state: &mut State| {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(job) = jobs.get(at)
        {
            done.push((at, work(state, job)));
        }
        done
    };
    let mut results: Vec<(usize, Out)> = thread::scope(|scope| {
        let workers: Vec<_> = states[..threads].iter_mut().map(|state| scope.spawn(|| take(state))).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, out)| out).collect()
}
