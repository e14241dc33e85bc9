//! Errors are classified, and leave nothing behind.

use super::lab::{Lab, equal, holds, refused};
use crate::connector::{Connection, Connector, ResourceState};
use crate::error::{ErrorKind, Reason};

pub(super) async fn constraints<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let made = "tables with constraints can be made";
    lab.must(made, "DROP TABLE IF EXISTS {t}_child", ()).await;
    let table = "CREATE TABLE {t} (id BIGINT PRIMARY KEY, name TEXT UNIQUE, age BIGINT NOT NULL CHECK (age >= 0))";
    lab.must(made, table, ()).await;
    let child = "CREATE TABLE {t}_child (id BIGINT PRIMARY KEY, parent BIGINT REFERENCES {t} (id))";
    lab.must(made, child, ()).await;
    lab.must(made, "INSERT INTO {t} VALUES (1, 'a', 1)", ()).await;
    for (sql, reason) in [
        ("INSERT INTO {t} VALUES (1, 'b', 1)", Reason::Unique),
        ("INSERT INTO {t} VALUES (2, 'a', 1)", Reason::Unique),
        ("INSERT INTO {t} VALUES (3, 'c', NULL)", Reason::NotNull),
        ("INSERT INTO {t} VALUES (4, 'd', -1)", Reason::Check),
        ("INSERT INTO {t}_child VALUES (1, 99)", Reason::ForeignKey),
    ] {
        let error = refused("constraints of the schema are enforced", lab.run(sql, ()).await);
        let found = (error.kind(), error.reason());
        equal("violations are classified as Constraint with their reason", &found, &(ErrorKind::Constraint, reason));
        holds("a violation is permanent", !error.is_transient(), error);
    }
    lab.counts("a violation has no effect", 1).await;
    lab.must("tables can be dropped", "DROP TABLE {t}_child", ()).await;
}

pub(super) async fn mistakes<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    for sql in ["no SQL at all", "SELECT FROM WHERE", "SELECT * FROM {t}_absent", "SELECT absent FROM {t}"] {
        let error = refused("a statement with a mistake fails", lab.run(sql, ()).await);
        equal("a mistake in a statement is classified as Query", &error.kind(), &ErrorKind::Query);
        holds("a mistake is permanent", !error.is_transient(), error);
        lab.state("a mistake leaves the connection idle", ResourceState::Idle);
    }
    let clause = "an error never shows the values of a statement";
    let error = refused("constraints of the schema are enforced", {
        lab.must(clause, "INSERT INTO {t} VALUES ($1, $2)", (1, "a")).await;
        lab.run("INSERT INTO {t} VALUES ($1, $2)", (1, "zanzibar-417")).await
    });
    holds(clause, !error.to_string().contains("zanzibar-417"), &error);
}

pub(super) async fn no_effect<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a statement that fails has no effect";
    refused(clause, lab.run("INSERT INTO {t} VALUES (1, 'a'), (2, 'b'), (1, 'again')", ()).await);
    lab.counts(clause, 0).await;
    lab.state("a failed statement leaves the connection idle", ResourceState::Idle);

    lab.must("rows can be written", "INSERT INTO {t} VALUES (1, 'a'), (2, 'b')", ()).await;
    refused(clause, lab.run("UPDATE {t} SET id = 5", ()).await);
    let rows = lab.must(clause, "SELECT id FROM {t} ORDER BY id", ()).await;
    let ids: Vec<i64> = rows.iter().filter_map(|row| row.get(0).ok()).collect();
    equal(clause, &ids, &vec![1, 2]);
}
