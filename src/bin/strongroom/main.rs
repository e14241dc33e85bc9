//! The program for the person at the terminal; docs/tool.md describes it. It uses what everybody can use of the crate.

mod arguments;
mod check;
mod copies;
mod doctor;
mod failure;
mod holders;
#[cfg(feature = "keyring")]
mod keyring;
#[cfg(not(feature = "keyring"))]
#[path = "no_keyring.rs"]
mod keyring;
mod keys;
mod migrate;
mod new_key;
mod print;
mod probe;
mod progress;
mod prompt;
mod salvage;
mod sql;
mod words;

use std::process::exit;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Command};
use failure::ExitCause;

/// How long what was interrupted may take to remove what it has made.
const GRACE: Duration = Duration::from_secs(10);

fn main() {
    let arguments = Arguments::parse();
    exit(match run(arguments.command) {
        Ok(()) => 0,
        Err(failure) => failure.tell(),
    })
}

fn run(command: Command) -> Result<(), ExitCause> {
    if let Command::Completions { shell } = command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "strongroom", &mut text);
        return Ok(words::write_out(&text)?);
    }
    // A person is asked before signals are caught: whoever waits for input ends at once.
    let work = command.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            signal = interrupted() => Err(signal.into()),
            outcome = work => outcome,
        }
    });
    runtime.shutdown_timeout(GRACE);
    outcome
}

/// Comes back when the user, or the system, wants the program to end.
#[cfg(unix)]
async fn interrupted() -> failure::Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => failure::Signal(2),
        _ = terminate.recv() => failure::Signal(15),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> failure::Signal {
    match tokio::signal::ctrl_c().await {
        Ok(()) => failure::Signal(2),
        Err(_) => std::future::pending().await,
    }
}
