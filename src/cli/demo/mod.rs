//! `forebay demo`: the whole story on one machine, in our own binary.
//!
//! Two stand-ins for legacy [`servers`] with their [`ledger`]s, the proxy before them ([`stage`]), and a [`load`] whose senders keep a [`journal`]. The
//! [`director`] plays the acts of the [`schedule`], the [`screen`] shows them, and at the end the [`books`] hold the three witnesses against each other:
//! every acknowledged order and mark is in the servers' ledgers exactly once, or the exit code is 1.
//!
//! Nothing here reaches into the proxy: it is used over HTTP alone, as its clients and operators use it.

pub mod books;
pub mod director;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod load;
pub mod report;
pub mod schedule;
pub mod screen;
pub mod servers;
pub mod stage;
pub mod wire;
pub mod workbook;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tempfile::TempDir;

/// Arguments of `forebay demo`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct DemoArgs {
    /// How long the load runs, in seconds; the story is told in that time
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub seconds: u64,

    /// Keep the proxy's data in this folder, which must be new or empty [default: a temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Why the demo could not be given.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A port, a thread, a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The proxy.
    #[error(transparent)]
    Stage(#[from] stage::StageError),
    /// The sample spreadsheet.
    #[error("cannot write the sample spreadsheet: {0}")]
    Sample(#[from] rust_xlsxwriter::XlsxError),
    /// The folder of `--data`.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// The folder of `--data` holds something.
    #[error("{0} is not empty; name a new folder with --data, so that an older queue does not come into these books")]
    NotEmpty(PathBuf),
    /// The user did not want to wait for the end.
    #[error("stopped before the books could be closed")]
    Interrupted,
}

/// Gives the demo. The exit code is 0 when the books balance and 1 when they do not or it could not be given.
pub fn run(args: &DemoArgs) -> ExitCode {
    match perform(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("forebay demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: &DemoArgs) -> Result<bool, DemoError> {
    let folder = Folder::open(args.data.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(director::direct(Duration::from_secs(args.seconds), folder.path()))
}

/// Where the data lies.
enum Folder {
    /// Until the end of the demo.
    Temporary(TempDir),
    /// As long as the user likes.
    Kept(PathBuf),
}

impl Folder {
    fn open(kept: Option<&Path>) -> Result<Self, DemoError> {
        let Some(path) = kept else { return Ok(Self::Temporary(TempDir::with_prefix("forebay-demo-")?)) };
        let fault = |error| DemoError::Folder(path.to_owned(), error);
        std::fs::create_dir_all(path).map_err(fault)?;
        if std::fs::read_dir(path).map_err(fault)?.next().is_some() {
            return Err(DemoError::NotEmpty(path.to_owned()));
        }
        // The working directory of a user's curl is another one.
        Ok(Self::Kept(path.canonicalize().map_err(fault)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

#[cfg(test)]
mod tests;
