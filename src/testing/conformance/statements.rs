//! Single statements, scripts, groups, and the life of a connection.

use std::sync::Arc;

use super::lab::{Lab, broken, equal, holds, must, refused};
use crate::connector::{
    Access, BulkInsert as _, Connection, Connector, Outcome, Resource, ResourceState, Scope, StatementKind,
    TransactionMode,
};
use crate::params::{ParamSets, Params};
use crate::row::Changes;
use crate::value::Value;

pub(super) async fn lifecycle<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.state("a new connection is idle", ResourceState::Idle);
    must("a new connection answers a ping", lab.connection.ping().await);
    must("resetting an idle connection succeeds", lab.connection.reset().await);
    must("rolling back without a transaction has no effect", lab.connection.rollback().await);
    lab.connection.baseline();
    lab.table().await;
    lab.must("a new connection writes", "INSERT INTO {t} VALUES (1, 'a')", ()).await;
    lab.state("a connection is idle after a statement", ResourceState::Idle);

    let clause = "a connection opened for reading reads";
    let mut reader = must(clause, lab.connector.connect(Access::Read).await);
    equal("a new connection is idle", &reader.state(), &ResourceState::Idle);
    let rows = must(clause, reader.run(lab.statement("SELECT name FROM {t}", ())).await);
    equal(clause, &rows.len(), &1);
    must("a connection opened for reading can be closed", reader.close().await);
}

pub(super) async fn one_database<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    lab.must("a connection writes", "INSERT INTO {t} VALUES (1, 'a')", ()).await;
    let clause = "what one connection wrote, another one of the same connector reads";
    let mut other = lab.another().await;
    let rows = must(clause, other.run(lab.statement("SELECT name FROM {t}", ())).await);
    equal(clause, &rows.len(), &1);
    must("a connection can be closed", other.close().await);
    lab.counts("closing one connection does not disturb another", 1).await;
}

pub(super) async fn headers<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let clause = "columns keep their order, and names that repeat";
    let rows = lab.must(clause, "SELECT 1 AS a, 2 AS b, 3 AS a", ()).await;
    equal(clause, &rows.columns().iter().map(|name| &**name).collect::<Vec<_>>(), &vec!["a", "b", "a"]);
    let cells: Vec<i64> = rows.iter().flat_map(|row| (0..3).filter_map(move |index| row.get(index).ok())).collect();
    equal(clause, &cells, &vec![1, 2, 3]);

    let clause = "a result without rows still has its columns";
    let rows = lab.must(clause, "SELECT 1 AS a, 2 AS b WHERE 1 = 0", ()).await;
    equal(clause, &(rows.len(), rows.columns().len()), &(0, 2));
}

pub(super) async fn changes<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a statement says how many rows it changed";
    for (sql, expected) in [
        ("INSERT INTO {t} VALUES (1, 'a'), (2, 'b'), (3, 'c')", 3),
        ("UPDATE {t} SET name = 'x' WHERE id > 1", 2),
        ("UPDATE {t} SET name = 'x' WHERE id > 100", 0),
        ("DELETE FROM {t} WHERE id = 1", 1),
        ("SELECT * FROM {t}", 0),
    ] {
        let rows = lab.must(clause, sql, ()).await;
        let changed = rows.changes().rows_affected;
        // Some servers count the rows of a query, too.
        let counted_query = sql.starts_with("SELECT") && changed == rows.len() as u64;
        holds(clause, changed == expected || counted_query, format_args!("{changed} instead of {expected}: {sql}"));
    }
}

pub(super) async fn one_statement_at_a_time<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "a text that holds more than one statement is refused";
    refused(clause, lab.run("INSERT INTO {t} VALUES (1, 'a'); INSERT INTO {t} VALUES (2, 'b')", ()).await);
    lab.counts("a refused text has no effect", 0).await;
    lab.must("a semicolon at the end, and one inside a text, are no second statement", "SELECT ';';", ()).await;
}

pub(super) async fn many_sets<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let sql: Arc<str> = lab.sql("INSERT INTO {t} VALUES ($1, $2)").into();
    let set = |id: i64| Params::Positional(vec![Value::Integer(id), Value::Text(format!("name {id}"))]);
    let in_transaction = "many sets of parameters run inside a transaction";
    must(in_transaction, lab.connection.begin(TransactionMode::WRITE).await);
    let changes = must(in_transaction, lab.connection.run_many(Arc::clone(&sql), (0..100).map(set).collect()).await);
    equal("many sets add up what they changed", &changes.rows_affected, &100);
    must(in_transaction, lab.connection.commit().await);
    lab.counts("every set of parameters runs", 100).await;

    must(in_transaction, lab.connection.begin(TransactionMode::WRITE).await);
    let sets = [200, 1, 201].map(set).into_iter().collect();
    refused("the first set that fails ends the call", lab.connection.run_many(Arc::clone(&sql), sets).await);
    must(in_transaction, lab.connection.rollback().await);
    must(in_transaction, lab.connection.begin(TransactionMode::WRITE).await);
    let sets = [set(300), Params::Positional(vec![Value::Integer(301)])].into_iter().collect();
    refused("a set of the wrong size is refused", lab.connection.run_many(Arc::clone(&sql), sets).await);
    must(in_transaction, lab.connection.rollback().await);
    must("no sets at all change nothing", lab.connection.run_many(Arc::clone(&sql), ParamSets::new()).await);
    lab.counts("a rollback undoes the sets before the failing one", 100).await;

    let clause = "sets that are added one after another all run";
    must(in_transaction, lab.connection.begin(TransactionMode::WRITE).await);
    let mut bulk = must(clause, lab.connection.bulk(sql).await);
    let mut changes = Changes::default();
    for first in [400, 450] {
        let sets = (first..first + 50).map(set).collect();
        changes.add(must(clause, bulk.add(sets).await).unwrap_or_default());
    }
    changes.add(must(clause, bulk.end().await));
    equal(clause, &changes.rows_affected, &100);
    must(in_transaction, lab.connection.commit().await);
    lab.counts(clause, 200).await;
}

pub(super) async fn scripts<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let clause = "a script runs all its statements";
    let script = "CREATE TABLE {t} (id BIGINT PRIMARY KEY, name TEXT); -- a comment; with a semicolon\n\
                  INSERT INTO {t} VALUES (1, 'a;b'); INSERT INTO {t} VALUES (2, 'it''s');\n/* the end */\n";
    must(clause, lab.connection.run_script(lab.sql(script).into()).await);
    lab.counts(clause, 2).await;
    must("an empty script does nothing", lab.connection.run_script("".into()).await);

    let clause = "a script fails with its first failing statement";
    let failing =
        "INSERT INTO {t} VALUES (3, 'c'); INSERT INTO {t} VALUES (1, 'again'); INSERT INTO {t} VALUES (4, 'd')";
    refused(clause, lab.connection.run_script(lab.sql(failing).into()).await);
    let count = lab.count().await;
    holds("the statements after the failing one do not run", count == 2 || count == 3, count);
    lab.state("a failed script leaves no transaction open", ResourceState::Idle);
}

pub(super) async fn tables<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    let name = lab.table.clone();
    let clause = "table_exists tells tables that are there from tables that are not";
    equal(clause, &must(clause, lab.connection.table_exists(&name).await), &false);
    lab.table().await;
    equal(clause, &must(clause, lab.connection.table_exists(&name).await), &true);
    for stranger in ["", "x' OR '1'='1", "no \"such\" table", "conformance_tables; DROP TABLE conformance_tables"] {
        equal(clause, &must(clause, lab.connection.table_exists(stranger).await), &false);
    }

    let clause = "table_exists sees views";
    lab.must(clause, "CREATE VIEW {t}_view AS SELECT id FROM {t}", ()).await;
    equal(clause, &must(clause, lab.connection.table_exists(&format!("{name}_view")).await), &true);
    lab.must(clause, "DROP VIEW {t}_view", ()).await;
}

pub(super) async fn classification<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let writing = [
        "INSERT INTO {t} VALUES ($1, 'a')",
        "INSERT INTO {t} VALUES (1, 'a') RETURNING id",
        "UPDATE {t} SET name = 'x'",
        "DELETE FROM {t}",
        "CREATE TABLE {t}_2 (id BIGINT)",
        "DROP TABLE {t}",
    ];
    for sql in writing {
        let clause = "a statement that writes is never classified as one that reads";
        let kind = must(clause, lab.connection.classify(&lab.sql(sql)));
        holds(clause, kind != StatementKind::Read, sql);
    }
    let clause = "a query may run beside writers";
    let kind = must(clause, lab.connection.classify(&lab.sql("SELECT * FROM {t} WHERE id = $1")));
    holds(clause, matches!(kind, StatementKind::Read | StatementKind::Write), format_args!("{kind:?}"));
    lab.counts("classifying runs nothing", 0).await;
    lab.state("classifying leaves a connection idle", ResourceState::Idle);

    let clause = "a statement that may not run where it was asked for is given back, and has done nothing";
    let insert = lab.statement("INSERT INTO {t} VALUES ($1, 'a')", (1,));
    let insert = match must(clause, lab.connection.run_in(insert, Scope::Read).await) {
        Outcome::Refused(kind, statement) if kind != StatementKind::Read => statement,
        other => broken(clause, format_args!("{other:?}")),
    };
    lab.counts(clause, 0).await;
    lab.state(clause, ResourceState::Idle);
    let clause = "a statement that may run where it was asked for runs";
    let ran = matches!(must(clause, lab.connection.run_in(insert, Scope::Write).await), Outcome::Ran(_));
    holds(clause, ran, "it was refused");
    lab.counts(clause, 1).await;

    let clause = "a group refuses what begins a transaction, and runs the rest";
    if must(clause, lab.connection.classify("BEGIN")) == StatementKind::Control {
        let group = vec![lab.statement("SELECT name FROM {t}", ()), lab.statement("BEGIN", ())];
        let fates: Vec<_> = lab.connection.run_group(group).await.iter().map(Result::is_ok).collect();
        equal(clause, &fates, &vec![true, false]);
        lab.state(clause, ResourceState::Idle);
    }
}

pub(super) async fn groups<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let group = vec![
        lab.statement("INSERT INTO {t} VALUES ($1, $2)", (1, "a")),
        lab.statement("INSERT INTO {t} VALUES ($1, $2)", (1, "again")),
        lab.statement("INSERT INTO {t} VALUES ($1, $2)", (2, "b")),
        lab.statement("INSERT INTO {t} VALUES ($1, $2)", (3,)),
        lab.statement("INSERT INTO {t} VALUES (4, 'd'), (5, 'e'), (4, 'twice')", ()),
        lab.statement("no SQL at all", ()),
        lab.statement("SELECT name FROM {t} WHERE id = $1", (2,)),
    ];
    let results = lab.connection.run_group(group).await;
    let clause = "each statement of a group has its own result, whatever becomes of the others";
    let fates: Vec<_> = results.iter().map(Result::is_ok).collect();
    equal(clause, &fates, &vec![true, false, true, false, false, false, true]);
    let name = results.last().and_then(|last| last.as_ref().ok()).and_then(crate::row::Rows::first);
    let name: String = name.map_or_else(|| broken(clause, "no row"), |row| must(clause, row.get(0)));
    equal(clause, &name.as_str(), &"b");
    lab.counts("each statement of a group is atomic by itself", 2).await;
    lab.state("a group leaves the connection idle", ResourceState::Idle);
    equal("an empty group has no results", &lab.connection.run_group(Vec::new()).await.len(), &0);
}

pub(super) async fn closing<C: Connector<Connection: Connection>>(lab: &mut Lab<C>) {
    lab.table().await;
    let clause = "closing a connection undoes its open transaction";
    let mut other = lab.another().await;
    must(clause, other.begin(TransactionMode::WRITE).await);
    must(clause, other.run(lab.statement("INSERT INTO {t} VALUES (1, 'a')", ())).await);
    // The goodbye may fail inside a transaction; the connection is gone all the same.
    let _ = other.close().await;
    lab.counts(clause, 0).await;
    lab.must("a closed connection holds no lock", "INSERT INTO {t} VALUES (2, 'b')", ()).await;
}
