//! `strongroom migrate`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom::database::migrations::{MigrateOptions, Migrations};

use crate::failure::ExitCause;
use crate::keys::Target;
use crate::probe::{Probe, probe};
use crate::words::{AnswerForm, say};

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    #[command(flatten)]
    target: Target,
    /// The folder with the files
    folder: PathBuf,
    /// Says what would run, and runs nothing
    #[arg(long)]
    plan: bool,
    /// Stops behind the migration of this number
    #[arg(long, value_name = "NUMBER")]
    up_to: Option<i64>,
    /// Creates the database if there is none
    #[arg(long, conflicts_with = "plan")]
    create: bool,
    /// What is created is not encrypted
    #[arg(long, requires = "create")]
    plaintext: bool,
    #[command(flatten)]
    form: AnswerForm,
}

impl Migrate {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let is_new = self.create && matches!(probe(&self.target.database), Probe::Missing);
        let key = if is_new { self.target.new_key(self.plaintext)? } else { self.target.key()? };
        Ok(async move {
            let migrations = Migrations::from_folder(&self.folder)?;
            let mut options = MigrateOptions::new();
            if let Some(version) = self.up_to {
                options = options.up_to(version);
            }
            let builder = self.target.builder(key);
            if self.plan {
                let db = builder.read_only().open().await?;
                let plan = db.migration_plan_with(&migrations, &options).await;
                db.close().await?;
                let plan = plan?;
                let steps = plan.pending.iter().map(
                    |step| json!({ "version": step.version, "name": step.name, "in_transaction": step.in_transaction }),
                );
                let answer = json!({ "version": plan.version, "pending": steps.collect::<Vec<_>>() });
                return Ok(self.form.say(&answer, || {
                    for step in &plan.pending {
                        let alone = if step.in_transaction { "" } else { " (outside of a transaction)" };
                        say(format_args!("would run {} {}{alone}", step.version, step.name))?;
                    }
                    if plan.pending.is_empty() { say(up_to_date(plan.version)) } else { Ok(()) }
                })?);
            }
            let db = builder.create_if_missing(self.create).open().await?;
            let report = db.migrate_with(&migrations, options).await;
            db.close().await?;
            let report = report?;
            let runs = report
                .ran
                .iter()
                .map(|run| json!({ "version": run.version, "name": run.name, "seconds": run.took.as_secs_f64() }));
            let answer = json!({ "version": report.version, "ran": runs.collect::<Vec<_>>() });
            Ok(self.form.say(&answer, || {
                for run in &report.ran {
                    say(format_args!("ran {} {} in {:.1?}", run.version, run.name, run.took))?;
                }
                if report.ran.is_empty() { say(up_to_date(report.version)) } else { Ok(()) }
            })?)
        })
    }
}

fn up_to_date(version: Option<i64>) -> String {
    match version {
        Some(version) => format!("nothing to do: the schema has version {version}"),
        None => "nothing to do".into(),
    }
}
