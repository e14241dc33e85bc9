//! The tables that a statement reads.
//!
//! The server knows them once it has planned the statement, views and functions resolved: it has locked them. So a transaction
//! plans it (`EXPLAIN`), asks for the locks that the session has, and is rolled back. Source: `pg_locks` in PostgreSQL's manual.

use std::fmt::Write as _;
use std::sync::Arc;

use super::message::shown;
use super::triggers::{IN_USE, TRIGGERS, why_not};
use crate::connector::{Access, Connection as _, Isolation, Statement, TransactionMode};
use crate::error::{Error, ErrorKind, Result};
use crate::feed::ChangeFeed;
use crate::postgres::connection::PostgresConnection;
use crate::postgres::statements::reads;

impl PostgresConnection {
    pub(crate) async fn tables_locked(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        if !reads(&statement.sql) {
            return Err(ChangeFeed::only_reads());
        }
        self.begin(TransactionMode { access: Access::Read, isolation: Isolation::Default }).await?;
        let found = Box::pin(self.look_through(statement)).await;
        self.rollback().await?;
        found
    }

    async fn look_through(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        let mut explain = statement.clone();
        explain.sql = format!("EXPLAIN {}", statement.sql).into();
        self.run(explain).await?;
        // The function, and not the view over it: what this query itself reads would be locked, too.
        let locks = "SELECT CAST(relation AS bigint), mode FROM pg_catalog.pg_lock_status() \
             WHERE locktype = 'relation' AND pid = pg_catalog.pg_backend_pid()";
        let locks = self.run(Statement::new(locks, ())?).await?;
        let (mut oids, mut writes) = (String::new(), false);
        for lock in &locks {
            write!(oids, "{}{}", if oids.is_empty() { "" } else { ", " }, lock.get::<i64>(0)?).ok();
            writes |= !matches!(&*lock.get::<String>(1)?, "AccessShareLock" | "RowShareLock");
        }
        if writes {
            return Err(ChangeFeed::only_reads());
        }
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        self.all_that_tell(&oids).await
    }

    /// These tables, with those that they are parts of and their own parts, by each of which they may be written.
    async fn all_that_tell(&mut self, oids: &str) -> Result<Vec<Arc<str>>> {
        let sql = format!(
            "WITH RECURSIVE named (oid) AS (SELECT oid FROM pg_catalog.pg_class WHERE oid IN ({oids})), \
             up (oid) AS (SELECT oid FROM named UNION \
                SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.oid), \
             down (oid) AS (SELECT oid FROM named UNION \
                SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN down ON i.inhparent = down.oid) \
             SELECT CAST(n.nspname AS text), CAST(c.relname AS text), CAST(c.relkind AS text), \
                CAST(c.relpersistence AS text), {IN_USE} \
             FROM (SELECT oid FROM up UNION SELECT oid FROM down) a JOIN pg_catalog.pg_class c ON c.oid = a.oid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind NOT IN ('i', 'I', 'v', 't') ORDER BY 1, 2"
        );
        let rows = self.run(Statement::new(sql, ())?).await?;
        let mut tables = Vec::with_capacity(rows.len());
        for row in &rows {
            let schema = row.get::<String>(0)?;
            let table = shown(&schema, &row.get::<String>(1)?);
            if matches!(&*schema, "pg_catalog" | "information_schema") {
                let message = format!("the statement reads {table}, a catalog of the server, which tells no changes");
                return Err(Error::new(ErrorKind::Unsupported, message).hint("run it again from time to time"));
            }
            if let Some((what, hint)) = why_not(&row.get::<String>(2)?, &row.get::<String>(3)?) {
                let message = format!("the statement reads {table}, {what}, which tells no changes");
                return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
            }
            if row.get::<i64>(4)? < TRIGGERS {
                let message = format!("the statement reads {table}, which has no triggers that tell its changes");
                let hint = format!("call install_change_feed([\"{table}\"]) first");
                return Err(Error::new(ErrorKind::Unsupported, message).hint(hint));
            }
            tables.push(table);
        }
        Ok(tables)
    }
}
