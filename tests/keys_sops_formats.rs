//! The five formats: by which name, in which spellings, and what is refused instead of guessed.
#![cfg(feature = "sops")]

#[path = "common/vectors.rs"]
mod vectors;

use std::fs;

use strongroom::keys::sops::{IdentitySources, SopsFormat};
use strongroom::{KeySource, Reason, SopsKeySource};
use vectors::{KEY, altered, ok, resolve, text_of, vectors};

#[tokio::test]
async fn the_format_goes_by_the_end_of_the_name_unless_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, file: &str| {
        let place = folder.path().join(name);
        fs::write(&place, text_of(file)).unwrap();
        place
    };
    for (name, file, path, text) in [
        ("s.yaml", "good/base.enc.yaml", "db_key", KEY),
        ("s.yml", "good/base.enc.yaml", "db_key", KEY),
        ("s.json", "good/types.enc.json", "l.1.1.k", "v"),
        ("prod.env", "good/types.enc.env", "DB_KEY", "dotenv key"),
        (".env", "good/types.enc.env", "DB_KEY", "dotenv key"),
        ("s.ini", "good/types.enc.ini", "database.key", "ini key"),
    ] {
        assert_eq!(resolve(&of(name, file), path).await, Ok(text.into()), "{name}");
    }
    // Every other end is binary, the same ones in capitals too.
    for name in ["s.YAML", "s.yaml.bak", "yaml", "s.env.old"] {
        assert_eq!(resolve(&of(name, "good/base.enc.yaml"), "db_key").await, Err(Reason::Malformed), "{name}");
        let told = SopsKeySource::at(folder.path().join(name)).format(SopsFormat::Yaml);
        let told = told.identities(IdentitySources::none().file(vectors().join("keys.txt")));
        assert_eq!(told.resolve().await.unwrap().expose(), KEY.as_bytes(), "{name}");
    }
}

#[tokio::test]
async fn settings_of_the_metadata_may_be_written_as_text() {
    let flag = "mac_only_encrypted: true";
    for yes in ["\"true\"", "\"1\"", "T", "TRUE", "1", "7"] {
        let text = |text: String| text.replace(flag, &format!("mac_only_encrypted: {yes}"));
        assert_eq!(altered("good/mac_only.enc.yaml", "db_key", text).await, ok(KEY), "{yes}");
    }
    for no in ["\"false\"", "\"0\"", "F", "\"\"", "null", "0"] {
        let text = |text: String| text.replace("sops:\n", &format!("sops:\n    mac_only_encrypted: {no}\n"));
        assert_eq!(altered("good/base.enc.yaml", "db_key", text).await, ok(KEY), "{no}");
    }
    for neither in ["\"yes\"", "[]", "1.5", "2024-01-01"] {
        let text = |text: String| text.replace(flag, &format!("mac_only_encrypted: {neither}"));
        assert_eq!(altered("good/mac_only.enc.yaml", "db_key", text).await, Err(Reason::Malformed), "{neither}");
    }
    for (threshold, expected) in [("\"2\"", ok(KEY)), ("two", Err(Reason::Malformed)), ("-2", Err(Reason::Malformed))] {
        let text = |text: String| text.replace("shamir_threshold: 2", &format!("shamir_threshold: {threshold}"));
        assert_eq!(altered("good/shamir_2_of_3.enc.yaml", "db_key", text).await, expected, "{threshold}");
    }
}

#[tokio::test]
async fn bytes_are_given_as_they_are_and_the_type_is_not_authenticated() {
    for (kind, expected) in [("bytes", ok(KEY)), ("int", Err(Reason::Tampered)), ("text", Err(Reason::Tampered))] {
        let retype = |text: String| text.replacen(",type:str]", &format!(",type:{kind}]"), 1);
        assert_eq!(altered("good/base.enc.yaml", "db_key", retype).await, expected, "{kind}");
    }
}

#[tokio::test]
async fn values_of_ini_files_may_go_on_over_lines() {
    // As 3.13.0 wrote them, instead of `\n`.
    let open = |text: String| {
        let line = text.lines().find(|line| line.contains("BEGIN AGE")).unwrap();
        let (name, value) = line.split_once('=').unwrap();
        text.replace(line, &format!("{name}= \"\"\"{}\"\"\"", value.trim().replace("\\n", "\n")))
    };
    assert_eq!(altered("good/types.enc.ini", "database.key", open).await, ok("ini key"));
    let one_line = |text: String| text.replacen("port_unencrypted = 5432", "port_unencrypted = \"\"\"5432\"\"\"", 1);
    let columns = |text: String| one_line(text.lines().map(squeeze).collect::<Vec<_>>().join("\n"));
    assert_eq!(altered("good/types.enc.ini", "database.port_unencrypted", columns).await, ok("5432"));
}

/// One blank around the equals sign.
fn squeeze(line: &str) -> String {
    match line.split_once('=') {
        Some((name, value)) => format!("{} = {}", name.trim(), value.trim()),
        None => line.to_owned(),
    }
}

#[tokio::test]
async fn what_sops_never_writes_into_ini_files_is_refused_and_not_guessed() {
    let lines = [
        "x = a # b",
        "x = a ; b",
        "x = a\\",
        "\"x\" = a",
        "`x` = a",
        "no equals sign",
        "= a",
        "[open",
        "x = \"a",
        "x = 'a'b'",
        "x = \"\"\"a",
        "x = \"\"\"a\nb\"\"\" c",
    ];
    for line in lines {
        let add = |text: String| text.replacen("[sops]", &format!("[other]\n{line}\n[sops]"), 1);
        assert_eq!(altered("good/types.enc.ini", "database.key", add).await, Err(Reason::Malformed), "{line}");
    }
}

#[tokio::test]
async fn text_behind_a_value_is_ignored_as_in_dotenv_files_with_carriage_returns() {
    let windows = |text: String| {
        text.lines()
            .map(|line| if line.starts_with("DB_KEY=ENC") { format!("{line}\r\n") } else { format!("{line}\n") })
            .collect()
    };
    assert_eq!(altered("good/types.enc.env", "DB_KEY", windows).await, ok("dotenv key"));
}
