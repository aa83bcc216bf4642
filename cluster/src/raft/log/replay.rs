//! Reads the files at the start and rebuilds each group's log.
//!
//! Only the unsynced tail of the last segment may be unreadable. It is overwritten, because nobody was told that it is
//! durable. What can be read of it is written and synced again before anybody relies on it, since after a failed sync
//! it may have been only in the cache (F-20). Anything else that does not fit is damage, and so are fewer frames than
//! were synced. The node must not vote with a log that lacks what it has promised.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::files::{Active, Files, Found};
use super::memory::MemoryLog;
use super::record::{self, Record};
use super::segment::{self, BadHeader, HEADER, Header};
use super::synced::Synced;
use super::{LogError, Options};
use crate::clock;
use crate::disk;

/// A segment with entries.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) bytes: u64,
    /// For each group, the highest entry in it.
    pub(super) highest: BTreeMap<u64, u64>,
}

/// The files of the log, ready to be appended to.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) files: Files,
    /// Oldest first; the last one is the active one.
    pub(super) live: VecDeque<Segment>,
    pub(super) active: Active,
}

/// The result of replay.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) groups: BTreeMap<u64, MemoryLog>,
    pub(super) segments: Segments,
    pub(super) synced: Synced,
    /// The number of the next frame.
    pub(super) next: u64,
}

/// Reads the log in `dir`, or makes one; also returns the lock on it.
pub(super) fn open(dir: &Path, options: &Options) -> Result<(Replayed, File), LogError> {
    let (reading, mut files, synced, lock) = examine(dir, options)?;
    if options.fsync {
        reading.make_durable(&files)?;
        let noted = synced.note(reading.next);
        noted.map_err(|source| LogError::io(dir, source))?;
    }
    let Reading {
        groups,
        mut live,
        next,
        end,
        ..
    } = reading;
    let active = match live.back() {
        Some(last) => files.reopen(&last.header, end)?,
        None => {
            let header = Header {
                seq: 1,
                first: 0,
                nonce: clock::random(),
            };
            live.push_back(Segment {
                header,
                bytes: options.segment_bytes,
                highest: BTreeMap::new(),
            });
            files.create(&header)?
        }
    };
    files.open_ahead();
    Ok((
        Replayed {
            groups,
            segments: Segments {
                files,
                live,
                active,
            },
            synced,
            next,
        },
        lock,
    ))
}

/// Reads the log in `dir` and writes nothing to it; also returns the lock on it.
pub(super) fn read_only(dir: &Path, options: &Options) -> Result<(Groups, File), LogError> {
    let (reading, _, _, lock) = examine(dir, options)?;
    Ok((reading.groups, lock))
}

type Groups = BTreeMap<u64, MemoryLog>;
type Examined = (Reading, Files, Synced, File);

/// Reads all files, and refuses an incomplete log.
fn examine(dir: &Path, options: &Options) -> Result<Examined, LogError> {
    let Found {
        files,
        segments: found,
        lock,
    } = Files::open(dir, options)?;
    let (synced, promised) = Synced::open(dir, !found.is_empty())?;
    let mut reading = Reading::default();
    for (at, (seq, path)) in found.iter().enumerate() {
        let bytes = read(path).map_err(|source| LogError::io(path, source))?;
        if at > 0 && found[at - 1].0 + 1 != *seq {
            return Err(LogError::Missing {
                file: files.path_of(seq - 1),
            });
        }
        reading.segment(*seq, path, &bytes, at + 1 == found.len(), promised)?;
    }
    reading.is_whole(promised, &files)?;
    Ok((reading, files, synced, lock))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    disk::open(OpenOptions::new().read(true), path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Default)]
struct Reading {
    groups: BTreeMap<u64, MemoryLog>,
    live: VecDeque<Segment>,
    /// The number of the next frame.
    next: u64,
    /// Where the last segment's readable frames end.
    end: u64,
    previous: PathBuf,
    unsynced: Vec<Tail>,
}

/// Frames at the end of the log that may never have been synced.
struct Tail {
    path: PathBuf,
    at: u64,
    bytes: Vec<u8>,
}

impl Reading {
    /// Checks that nothing is missing that was promised, at the end and at the beginning.
    fn is_whole(&self, promised: u64, files: &Files) -> Result<(), LogError> {
        let oldest = self.live.front().map(|oldest| oldest.header.seq);
        let missing = |seq| LogError::Missing {
            file: files.path_of(seq),
        };
        match oldest {
            None if self.next < promised => Err(missing(1)),
            Some(_) if self.next < promised => Err(LogError::Damaged {
                file: self.previous.clone(),
                offset: self.end,
            }),
            Some(oldest) if !self.groups.values().all(MemoryLog::is_whole) => {
                Err(missing(oldest.saturating_sub(1)))
            }
            _ => Ok(()),
        }
    }

    /// Makes durable what was read, since it counts from now on.
    fn make_durable(&self, files: &Files) -> Result<(), LogError> {
        let mut tails = self.unsynced.iter();
        tails.try_for_each(|tail| files.rewrite(&tail.path, &tail.bytes, tail.at))
    }

    fn segment(
        &mut self,
        seq: u64,
        path: &Path,
        bytes: &[u8],
        last: bool,
        promised: u64,
    ) -> Result<(), LogError> {
        let damaged = |offset: usize| LogError::Damaged {
            file: path.to_owned(),
            offset: offset as u64,
        };
        let header = Header::decode(bytes).map_err(|bad| match bad {
            BadHeader::Damaged => damaged(0),
            BadHeader::Version(found) => LogError::Version {
                file: path.to_owned(),
                found,
            },
        })?;
        if header.seq != seq {
            return Err(damaged(0));
        }
        if self.live.is_empty() {
            self.next = header.first;
        } else if header.first != self.next {
            // A segment is synced before the next one is made, so this one is damaged.
            return Err(LogError::Damaged {
                file: self.previous.clone(),
                offset: self.end,
            });
        }
        self.live.push_back(Segment {
            header,
            bytes: bytes.len() as u64,
            highest: BTreeMap::new(),
        });
        let seed = header.seed();
        let (mut at, mut synced) = (HEADER, HEADER);
        while let Some((payload, after)) = segment::frame_at(bytes, at, seed, self.next) {
            self.frame(payload).ok_or_else(|| damaged(at))?;
            self.next += 1;
            at = after;
            if self.next <= promised {
                synced = at;
            }
        }
        if last && segment::later_frame(bytes, at, seed, self.next) {
            return Err(damaged(at));
        }
        if synced < at {
            self.unsynced.push(Tail {
                path: path.to_owned(),
                at: synced as u64,
                bytes: bytes[synced..at.min(bytes.len())].to_vec(),
            });
        }
        self.end = at as u64;
        self.previous = path.to_owned();
        Ok(())
    }

    /// Applies a frame; `None` if it makes no sense after what precedes it.
    fn frame(&mut self, mut payload: &[u8]) -> Option<()> {
        while !payload.is_empty() {
            let (id, record) = record::take(&mut payload).ok()?;
            if let Record::Marks(marks) = record {
                self.marks(id, marks)?;
                continue;
            }
            let group = self.groups.entry(id).or_default();
            match record {
                Record::Vote(vote) => group.vote = Some(vote),
                Record::Committed(committed) => group.committed = committed,
                Record::Truncate(last) => group.truncate_after(last),
                Record::Purge(upto) => group.purge(upto),
                Record::Entry(entry) => {
                    let index = entry.log_id.index;
                    group.append(entry).ok()?;
                    let highest = self.live.back_mut()?.highest.entry(id).or_default();
                    *highest = index.max(*highest);
                }
                Record::Marks(_) => {}
            }
        }
        Some(())
    }

    /// Applies marks. In the oldest segment they stand for what is gone; in later ones they repeat what was read.
    fn marks(&mut self, id: u64, marks: super::memory::Marks) -> Option<()> {
        if self.live.len() == 1 {
            self.groups.insert(id, MemoryLog::from_marks(marks));
            return Some(());
        }
        let known = self
            .groups
            .get(&id)
            .map(MemoryLog::marks)
            .unwrap_or_default();
        (known == marks).then_some(())
    }
}

#[cfg(test)]
mod tests;
