//! `strongroom check`

use clap::Args;
use serde_json::json;
use strongroom::database::CheckDepth;

use crate::failure::{ExitCause, code, concluded};
use crate::keys::Target;
use crate::progress::ProgressLine;
use crate::words::{AnswerForm, count, note, say};

#[derive(Args, Debug)]
pub(crate) struct Check {
    #[command(flatten)]
    target: Target,
    /// Looks at every row and index, too, and at foreign keys
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    form: AnswerForm,
}

impl Check {
    pub(crate) fn prepare(self) -> Result<impl Future<Output = Result<(), ExitCause>>, ExitCause> {
        let key = self.target.key()?;
        Ok(async move {
            let db = self.target.builder(key).read_only().open().await?;
            let depth = if self.full { CheckDepth::Full } else { CheckDepth::Quick };
            let mut progress = ProgressLine::new();
            let show = |now: strongroom::database::CheckProgress<'_>| {
                progress.show("checking", now.done as u64, now.total as u64);
            };
            let report = db.check_with(depth, show).await;
            drop(progress);
            db.close().await?;
            let report = report?;
            let problems = report.problems.iter();
            let problems: Vec<_> =
                problems.map(|problem| json!({ "step": problem.step, "message": problem.message })).collect();
            let answer = json!({
                "ok": report.is_ok(), "full": self.full, "problems": problems, "truncated": report.truncated,
            });
            let told = self.form.say(&answer, || {
                for problem in &report.problems {
                    say(format_args!("{}: {}", problem.step, problem.message))?;
                }
                if report.is_ok() {
                    let how = if self.full { "every page and row" } else { "every page" };
                    say(format_args!("no damage found; {how} was looked at"))?;
                }
                Ok(())
            });
            if report.is_ok() {
                return concluded(told, 0);
            }
            let more = if report.truncated { " or more" } else { "" };
            note(format_args!("error: {}{more} found", count(report.problems.len() as u64, "problem")));
            note("hint: restore a backup; rows on other pages can still be read");
            concluded(told, code::DAMAGED)
        })
    }
}
