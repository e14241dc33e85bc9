//! What the compiler says of a program that is wrong in one place: one error, about that place.
//!
//! The programs are given to rustc with the library that this test is linked with, so that nothing is built anew.
#![cfg(feature = "sqlcipher")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The libraries of this crate beside this program, the newest first.
fn built() -> (PathBuf, Vec<PathBuf>) {
    let program = env::current_exe().unwrap();
    let directory = program.parent().unwrap().to_path_buf();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libstrongroom-") && name.ends_with(".rlib")
    };
    let entries = fs::read_dir(&directory).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<_> = entries.filter(is_ours).collect();
    found.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
    found.reverse();
    (directory, found)
}

/// What rustc says of a program.
fn said_of(program: &str, directory: &Path, library: &Path) -> String {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("program.rs");
    fs::write(&source, program).unwrap();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "-A", "warnings"])
        .arg("-L")
        .arg(format!("dependency={}", directory.display()))
        .arg("--extern")
        .arg(format!("strongroom={}", library.display()))
        .arg("--out-dir")
        .arg(work.path())
        .arg(&source)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const HEAD: &str = "
use strongroom::database::{RawConnection, Transaction};
use strongroom::{AsyncDatabase, Result};
pub struct NotAValue;
pub struct NotARow;
";

fn function(number: usize, body: &str) -> String {
    format!(
        "pub async fn f{number}(db: &AsyncDatabase, tx: &mut Transaction, conn: &mut RawConnection) -> Result<()> {{\n    \
         {body};\n    Ok(())\n}}\n"
    )
}

/// Each of these lines, wrong in one place, is one error at that line, of at most so many lines, which `explains` itself.
fn each_is_one_short_error(wrong: &[&str], most: usize, explains: impl Fn(&str) -> bool) {
    let (directory, libraries) = built();
    let right =
        format!("{HEAD}{}", function(0, "db.execute(\"..\", (1, \"a\")).await?; tx.execute(\"..\", ()).await?"));
    let fits = |library: &&PathBuf| said_of(&right, &directory, library).is_empty();
    let library = libraries.iter().find(fits).expect("a library beside the test that a right program compiles with");
    let functions: Vec<_> = wrong.iter().enumerate().map(|(number, body)| function(number, body)).collect();
    let program = format!("{HEAD}{}", functions.concat());
    let said = said_of(&program, &directory, library);
    let (said, _) = said.split_once("\nerror: aborting").unwrap();
    let errors: Vec<_> = said.split("error[").skip(1).collect();
    for body in wrong {
        let line = program.lines().position(|line| line.trim() == format!("{body};")).unwrap() + 1;
        let place = format!("program.rs:{line}:");
        let of_it: Vec<_> = errors.iter().filter(|error| error.contains(&place)).collect();

        let [error] = of_it[..] else { panic!("{} errors for {body}\n{said}", of_it.len()) };
        assert!(explains(error), "{body}\n{error}");
        assert!(error.lines().count() <= most, "{} lines: {body}\n{error}", error.lines().count());
    }
    assert_eq!(errors.len(), wrong.len(), "{said}");
}

#[test]
fn a_parameter_that_cannot_be_bound_is_one_error() {
    let wrong = [
        "db.execute(\"..\", (1, NotAValue)).await?",
        "db.execute(\"..\", NotAValue).await?",
        "db.execute(\"..\", 1).await?",
        "db.fetch_one(\"..\", (1, \"a\", NotAValue)).await?",
        "db.fetch_all(\"..\", [NotAValue]).await?",
        "db.fetch_value::<i64>(\"..\", vec![NotAValue]).await?",
        "db.fetch_one_as::<(i64,)>(\"..\", [(\"id\", NotAValue)]).await?",
        "db.fetch_all_as::<(i64,)>(\"..\", (Some(NotAValue),)).await?",
        "tx.execute(\"..\", (1, NotAValue)).await?",
        "tx.fetch_one(\"..\", (NotAValue,)).await?",
        "conn.execute(\"..\", (NotAValue, 1)).await?",
        "conn.fetch_all(\"..\", (NotAValue,)).await?",
        "db.execute_many(\"..\", [(1, NotAValue)]).await?",
        "tx.execute_many(\"..\", vec![(1, NotAValue)]).await?",
        "drop(db.fetch_stream(\"..\", (1, NotAValue)))",
        "let (a, b) = (db.execute(\"..\", (NotAValue,)), ()); (a.await?, b)",
    ];
    each_is_one_short_error(&wrong, 39, |error| {
        error.contains("`NotAValue` cannot be bound") || error.contains("cannot be used as parameters")
    });
}

#[test]
fn a_type_that_no_row_can_be_read_into_is_one_error() {
    let wrong = [
        "db.fetch_all_as::<NotARow>(\"..\", ()).await?",
        "db.fetch_one_as::<(i64, NotARow)>(\"..\", ()).await?",
        "tx.fetch_one_as::<NotARow>(\"..\", ()).await?",
        "conn.fetch_all_as::<Option<NotARow>>(\"..\", ()).await?",
        "db.fetch_all(\"..\", ()).await?.decode::<NotARow>()?",
    ];
    each_is_one_short_error(&wrong, 38, |error| error.contains("#[derive(serde::Deserialize)]"));
    let wrong = [
        "db.fetch_value::<NotARow>(\"..\", ()).await?",
        "tx.fetch_value::<Option<NotARow>>(\"..\", ()).await?",
        "db.fetch_one(\"..\", ()).await?.unwrap().get::<NotARow>(0)?",
    ];
    each_is_one_short_error(&wrong, 39, |error| {
        error.contains("NotARow") && error.contains("cannot be read from a column")
    });
}
