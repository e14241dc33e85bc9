//! `strongroom salvage`

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use strongroom::Reason;
use strongroom::sqlcipher::{SalvageOptions, SalvageReport};

use crate::copies::{NewForm, depth, shown};
use crate::failure::{ExitCause, code, concluded};
use crate::keys::Target;
use crate::words::{AnswerForm, bytes, count, say};

const WRONG_KEY: &str = "check which key belongs to the file; if its first 16 bytes are damaged, give --salt-from a copy \
                         under the same key";

#[derive(Args, Debug)]
pub(crate) struct Salvage {
    #[command(flatten)]
    target: Target,
    /// Where the new file is to stand
    new_file: PathBuf,
    #[command(flatten)]
    form: NewForm,
    /// A copy under the same key, of which the first 16 bytes replace damaged ones
    #[arg(long, value_name = "COPY")]
    salt_from: Option<PathBuf>,
    /// The new file may take the place of one that stands there
    #[arg(long)]
    replace: bool,
    /// Also looks at every row of the new file
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    answer: AnswerForm,
}

impl Salvage {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let key = self.target.key()?;
        let mut options = SalvageOptions::new().replace(self.replace).check(depth(self.full)).on_progress(shown());
        if let Some(copy) = &self.salt_from {
            let salt = salt_of(copy).map_err(|error| {
                let message = format!("no salt can be read from {}: {error}", copy.display());
                ExitCause::Said(message, "name a file that is encrypted under the same key")
            })?;
            options = options.salt(salt);
        }
        let options = self.form.given(options, SalvageOptions::key, SalvageOptions::plaintext)?;
        Ok(async move {
            match self.target.builder(key).salvage_to(&self.new_file, options).await {
                Ok(report) => told(&self.new_file, &report, self.answer),
                Err(error) if error.reason() == Reason::WrongKey => Err(ExitCause::Engine(error, Some(WRONG_KEY))),
                Err(error) => Err(error.into()),
            }
        })
    }
}

fn salt_of(copy: &Path) -> io::Result<[u8; 16]> {
    let mut salt = [0; 16];
    File::open(copy)?.read_exact(&mut salt)?;
    Ok(salt)
}

/// What is in the new file, and what is not.
fn told(new: &Path, report: &SalvageReport, answer: AnswerForm) -> Result<(), ExitCause> {
    let told = answer.say(&for_programs(new, report), || for_people(new, report));
    concluded(told, if report.is_complete() { 0 } else { code::DAMAGED })
}

fn for_programs(new: &Path, report: &SalvageReport) -> Value {
    let tables = report
        .tables
        .iter()
        .map(|table| json!({ "name": table.name, "found": table.found, "copied": table.copied, "gaps": table.gaps }));
    let not_made = report.not_made.iter().map(|missing| json!({ "name": missing.name, "why": missing.why }));
    json!({
        "file": new, "complete": report.is_complete(), "rows": report.copied(), "bytes": report.bytes,
        "encrypted": report.encrypted, "tables": tables.collect::<Vec<_>>(),
        "lost_and_found": report.lost_and_found, "lost_and_found_rows": report.lost_and_found_rows,
        "not_made": not_made.collect::<Vec<_>>(), "schema_is_whole": report.schema_is_whole,
        "lost_pages": report.lost_pages, "missing_pages": report.missing_pages,
    })
}

fn for_people(new: &Path, report: &SalvageReport) -> io::Result<()> {
    let encrypted = if report.encrypted { "encrypted" } else { "not encrypted" };
    let tables = count(report.tables.len() as u64, "table");
    let (rows, size) = (count(report.copied(), "row"), bytes(report.bytes));
    say(format_args!("{}: {tables}, {rows}, {size}, {encrypted}, verified", new.display()))?;
    for table in &report.tables {
        let lost = table.found - table.copied;
        if lost > 0 || table.gaps > 0 {
            let (copied, pages) = (count(table.copied, "row"), count(table.gaps, "page"));
            say(format_args!("table {}: {copied} copied, {lost} not; {pages} missing", table.name))?;
        }
    }
    if let Some(name) = &report.lost_and_found {
        say(format_args!("table {name}: {} of no known table", count(report.lost_and_found_rows, "row")))?;
    }
    for missing in &report.not_made {
        say(format_args!("not made: {}: {}", missing.name, missing.why))?;
    }
    if !report.schema_is_whole {
        say("a page was lost that may have held a part of the schema")?;
    }
    if report.is_complete() {
        return say("nothing was lost");
    }
    let lost = report.lost_pages.len() as u64 + u64::from(report.missing_pages);
    say(format_args!("lost: {}{}", count(lost, "page"), numbers(&report.lost_pages)))
}

/// Page numbers, as long as they can be read at a glance.
fn numbers(pages: &[u32]) -> String {
    const MOST: usize = 20;
    let shown: Vec<_> = pages.iter().take(MOST).map(u32::to_string).collect();
    let more = if pages.len() > MOST { ", .." } else { "" };
    if shown.is_empty() { String::new() } else { format!(" ({}{more})", shown.join(", ")) }
}
