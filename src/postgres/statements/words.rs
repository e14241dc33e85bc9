//! Looking at the text of a statement: just enough to tell what kind it is, never what it means.

use crate::connector::StatementKind;
use crate::params::Dialect;
use crate::params::lexer::{Token, Tokens};
use crate::params::script::statements;

/// The tokens of a text in PostgreSQL's dialect.
pub(crate) fn tokens(sql: &str) -> Tokens<'_> {
    Tokens::of(sql, Dialect::Postgres)
}

/// What the text of a statement tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its own caller")]
pub(crate) struct Shape {
    pub(crate) kind: StatementKind,
    /// Begins or ends a transaction, which only the methods for it may do.
    pub(crate) transaction: bool,
    /// Copies from or to the client, which only the driver's own methods can do.
    pub(crate) copy: bool,
    /// Changes nothing that outlives the session, unless a function that it calls does.
    pub(crate) reads: bool,
    /// May stand in a WITH, if it yields rows.
    pub(crate) nests: bool,
    /// The number the server reports counts rows that were changed, not rows that were read.
    pub(crate) counts_changes: bool,
    /// May commit on its way, so that not all of it is undone where it fails.
    pub(crate) commits_within: bool,
    pub(crate) traces: Traces,
}

/// What a statement, or a script, may leave behind it, as far as its words tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Traces {
    /// The session has another setting, a temporary table or the like.
    pub(crate) alters_session: bool,
    /// The transaction or the session may write, or may not.
    pub(crate) sets_access: bool,
    /// The session keeps its warnings to itself.
    pub(crate) silences: bool,
}

impl Traces {
    fn of(sql: &str, sets_session: bool) -> Self {
        let alters_session = sets_session || leaves_temporary(sql) || sets_for_session(sql);
        let silences = alters_session || mentions(sql, "client_min_messages") || sets_what_is_bound(sql);
        Self { alters_session, sets_access: sets_access(sql), silences }
    }

    /// Of all statements of a script.
    pub(crate) fn of_script(script: &str) -> Self {
        let each = statements(script, Dialect::Postgres).map(|one| Shape::of(one).traces);
        each.fold(Self::default(), |all, one| Self {
            alters_session: all.alters_session | one.alters_session,
            sets_access: all.sets_access | one.sets_access,
            silences: all.silences | one.silences,
        })
    }
}

impl Shape {
    pub(crate) fn of(sql: &str) -> Self {
        let mut begin = tokens(sql).skip_while(|token| *token == Token::Symbol(b'('));
        let first = begin.next().unwrap_or(Token::Literal);
        let second = begin.next().unwrap_or(Token::Literal);
        let first_is = |words: &[&str]| first.is_one_of(words);
        let second_is = |words: &[&str]| second.is_one_of(words);
        let has = |words: &[&str]| tokens(sql).any(|token| token.is_one_of(words));

        let transaction = first_is(&["BEGIN", "START", "COMMIT", "END", "ABORT", "ROLLBACK", "SAVEPOINT", "RELEASE"])
            || first.is("PREPARE") && second.is("TRANSACTION");
        let session = first_is(&["RESET", "DISCARD", "LISTEN", "UNLISTEN", "PREPARE", "DEALLOCATE", "LOAD"])
            || first.is("SET") && !second_is(&["LOCAL", "CONSTRAINTS", "TRANSACTION"]);
        let outside = first.is("VACUUM")
            || first_is(&["CREATE", "DROP"]) && second_is(&["DATABASE", "TABLESPACE", "SUBSCRIPTION"])
            || first_is(&["CREATE", "DROP", "REINDEX"]) && has(&["CONCURRENTLY"])
            || first.is("ALTER") && second.is("SYSTEM");
        let query = first_is(&["SELECT", "VALUES", "TABLE", "SHOW", "WITH"])
            && !has(&["INSERT", "UPDATE", "DELETE", "MERGE", "INTO"]);
        let reads = session || first.is("SET") || query;
        Self {
            kind: match () {
                () if transaction || session => StatementKind::Control,
                () if outside => StatementKind::OutsideTransaction,
                () if query => StatementKind::Read,
                () => StatementKind::Write,
            },
            transaction,
            copy: first.is("COPY") && has(&["STDIN", "STDOUT"]),
            reads,
            // WITH that changes something must stand at the top.
            nests: first_is(&["SELECT", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"])
                || first.is("WITH") && reads,
            counts_changes: if first.is("WITH") { with_changes(sql) } else { !first_is(READERS) },
            commits_within: outside || first.is("CALL") || first.is("DO") && commits_by_its_words(sql),
            traces: Traces::of(sql, session),
        }
    }
}

/// Whether a statement reads, as far as its words tell.
pub(crate) fn reads(sql: &str) -> bool {
    Shape::of(sql).kind == StatementKind::Read
}

/// Whether a statement makes something temporary that outlives the transaction. The words stand alone, for TEMP and
/// TEMPORARY may also be names of columns and tables.
fn leaves_temporary(sql: &str) -> bool {
    let (mut made, mut dropped) = (false, false);
    let (mut before, mut last) = (Token::Literal, Token::Literal);
    for token in tokens(sql) {
        let names_a_table = before.is_one_of(&["INSERT", "MERGE"]);
        let makes = last.is_one_of(&["CREATE", "REPLACE", "LOCAL", "GLOBAL"]) || last.is("INTO") && !names_a_table;
        made |= token.is("pg_temp") || token.is_one_of(&["TEMP", "TEMPORARY"]) && makes;
        dropped |= last.is("COMMIT") && token.is("DROP");
        (before, last) = (last, token);
    }
    made && !dropped
}

/// Whether a statement calls `set_config` other than with a plain `true` at the end, which sets for the transaction.
fn sets_for_session(sql: &str) -> bool {
    let mut tokens = tokens(sql);
    while tokens.any(|token| token.is("set_config")) {
        let mut depth = 0_u32;
        let (mut before, mut last) = (Token::Literal, Token::Literal);
        for token in tokens.clone() {
            match token {
                Token::Symbol(b'(') => depth += 1,
                Token::Symbol(b')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            (before, last) = (last, token);
        }
        if before != Token::Symbol(b',') || !last.is("TRUE") {
            return true;
        }
    }
    false
}

/// Whether a statement says READ WRITE or READ ONLY, as SET TRANSACTION and BEGIN do, or sets what stands for that. What
/// `RESET` returns to is what the session was opened with.
fn sets_access(sql: &str) -> bool {
    let first = tokens(sql).next().unwrap_or(Token::Literal);
    let mut pairs = tokens(sql).zip(tokens(sql).skip(1));
    let says = first.is_one_of(&["SET", "BEGIN", "START"])
        && pairs.any(|(one, two)| one.is("READ") && two.is_one_of(&["WRITE", "ONLY"]));
    let sets = || first.is_one_of(&["SET", "DO"]) || mentions(sql, "set_config");
    says || mentions(sql, "transaction_read_only") && sets()
}

/// Whether a DO may commit on its way. Functions never do: it has to say so itself, whatever its language, or call a procedure.
fn commits_by_its_words(sql: &str) -> bool {
    ["commit", "call", "execute"].iter().any(|word| mentions(sql, word))
}

/// Whether a text holds `name` in any case, wherever it stands.
fn mentions(sql: &str, name: &str) -> bool {
    sql.as_bytes().windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a statement calls `set_config` for a setting whose name is a parameter.
fn sets_what_is_bound(sql: &str) -> bool {
    let mut tokens = tokens(sql);
    while tokens.any(|token| token.is("set_config")) {
        if matches!(tokens.clone().nth(1), Some(Token::Placeholder(..))) {
            return true;
        }
    }
    false
}

/// Whether the statements of a script do nothing but alter the session, and so leave nothing behind when it breaks.
pub(crate) fn only_sets(script: &str) -> bool {
    let sets = |shape: Shape| shape.reads && shape.kind == StatementKind::Control;
    statements(script, Dialect::Postgres).all(|one| sets(Shape::of(one)))
}

/// Whether a script may commit before its end: outside a transaction, its statements are one, but for what it says itself;
/// a procedure commits only where it stands alone.
pub(crate) fn commits_midway(script: &str) -> bool {
    let mut each = statements(script, Dialect::Postgres).peekable();
    let mut alone = true;
    while let Some(one) = each.next() {
        let last = each.peek().is_none();
        let (mut words, shape) = (tokens(one), Shape::of(one));
        let first = words.next().unwrap_or(Token::Literal);
        if !last && shape.transaction && first.is_one_of(&["COMMIT", "END", "PREPARE"])
            || last && alone && shape.commits_within
        {
            return true;
        }
        alone = false;
    }
    false
}

/// Whether one of the statements of a script begins or ends a transaction, or a savepoint.
pub(crate) fn ends_transaction(script: &str) -> bool {
    statements(script, Dialect::Postgres).any(|one| Shape::of(one).transaction)
}

const READERS: &[&str] = &["SELECT", "VALUES", "TABLE", "FETCH", "MOVE"];

/// Whether the statement behind the common table expressions changes rows.
fn with_changes(sql: &str) -> bool {
    let mut depth = 0_u32;
    for token in tokens(sql) {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            token if token.is_one_of(READERS) => return false,
            token if token.is_one_of(&["INSERT", "UPDATE", "DELETE", "MERGE"]) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_found_behind_comments_and_parentheses() {
        for sql in ["COMMIT", " /* a /* b */ */ -- c\n commit", "Rollback to x", "prepare transaction 'a'"] {
            assert!(Shape::of(sql).transaction, "{sql}");
        }
        for sql in ["'COMMIT'", "\"commit\"()", "prepare a as select 1", "", "$$begin$$", "committed"] {
            assert!(!Shape::of(sql).transaction, "{sql}");
        }
    }

    #[test]
    fn what_alters_the_session_is_control_and_what_ends_with_the_transaction_is_not() {
        for sql in ["SET search_path = a", "reset all", "LISTEN x", "DISCARD ALL", "begin"] {
            assert_eq!(Shape::of(sql).kind, StatementKind::Control, "{sql}");
        }
        for sql in
            ["SET LOCAL a = 1", "set constraints all deferred", "SET TRANSACTION READ ONLY", "update t set a = 1"]
        {
            assert_eq!(Shape::of(sql).kind, StatementKind::Write, "{sql}");
        }
        for sql in ["vacuum t", "create database x", "create unique index concurrently i on t (a)"] {
            assert_eq!(Shape::of(sql).kind, StatementKind::OutsideTransaction, "{sql}");
        }
    }

    #[test]
    fn what_only_sounds_as_if_it_altered_the_session_does_not() {
        let does = [
            "create or replace temp view v as select 1",
            "create global temporary table t (a int)",
            "select 1 as a into temporary table t",
            "create table pg_temp.t (a int)",
            "select set_config('a', 'b', false)",
            "select set_config('a', $1, $2)",
            "select set_config('a', f(1, true), false), set_config('a', 'b', true)",
            "select set_config('a', 'b', true), set_config('a', 'b', not true)",
            "create temp table t on commit drop as select set_config('a', 'b', false)",
        ];
        for sql in does {
            assert!(Shape::of(sql).traces.alters_session, "{sql}");
        }
        let does_not = [
            "select temp, t.temporary from temp t",
            "insert into temp values (1)",
            "merge into temporary using t on true when matched then do nothing",
            "create table t (temp int, \"set_config\" text)",
            "create temp table t (a int) on commit drop",
            "select set_config('a', (select f(b, c)), true)",
            "select 'set_config(1, 2, false)' -- create temp table",
            "begin",
        ];
        for sql in does_not {
            assert!(!Shape::of(sql).traces.alters_session, "{sql}");
        }
    }

    #[test]
    fn what_may_commit_on_its_way_is_known_by_its_words() {
        for sql in ["call f()", "/* */ DO $$begin commit; end$$", "vacuum", "create index concurrently i on t (a)"] {
            assert!(Shape::of(sql).commits_within, "{sql}");
        }
        for sql in ["do 'begin Commit; end'", "DO $$begin execute c; end$$", "do $$begin CALL f(); end$$"] {
            assert!(Shape::of(sql).commits_within, "{sql}");
        }
        for sql in [
            "select call from do",
            "insert into t values (1)",
            "create index i on t (a)",
            "'call'",
            "do $$begin perform f(); raise exception 'not now'; end$$",
        ] {
            assert!(!Shape::of(sql).commits_within, "{sql}");
        }
    }

    #[test]
    fn what_has_a_say_in_whether_a_session_may_write_is_known() {
        let does = [
            "begin isolation level serializable read /* only */ write",
            "START TRANSACTION READ ONLY",
            "set transaction read write",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "set default_transaction_read_only = off",
            "SET LOCAL \"transaction_read_only\" TO off",
            "select Set_Config('Transaction_Read_Only', 'off', true)",
            "do $$ begin set local transaction_read_only = off; end $$",
        ];
        for sql in does {
            assert!(Shape::of(sql).traces.sets_access, "{sql}");
        }
        let does_not = [
            "show transaction_read_only",
            "select current_setting('transaction_read_only')",
            "reset default_transaction_read_only",
            "select read, only from read_write",
            "begin isolation level read committed",
            "set search_path = read, write",
            "select set_config('a.b', 'c', true)",
        ];
        for sql in does_not {
            assert!(!Shape::of(sql).traces.sets_access, "{sql}");
        }
    }

    #[test]
    fn what_may_hide_the_warnings_is_known() {
        let does = [
            "set local client_min_messages = error",
            "select set_config('CLIENT_MIN_MESSAGES', 'error', true)",
            "select set_config('a.b', 'c', true), set_config($1, $2, true)",
            "do $$ begin set client_min_messages = error; end $$",
            "reset all",
        ];
        for sql in does {
            assert!(Shape::of(sql).traces.silences, "{sql}");
        }
        for sql in ["set local a.b = c", "select set_config('a.b', $1, true)", "insert into t values ($1)"] {
            assert!(!Shape::of(sql).traces.silences, "{sql}");
        }
    }

    #[test]
    fn a_script_alters_the_session_where_one_of_its_statements_does() {
        for script in
            ["create table t (a int); set x = 1", "/* ; */ LISTEN a", "create temp table t (a int)", ";;reset all"]
        {
            assert!(Traces::of_script(script).alters_session, "{script}");
        }
        for script in ["begin; update t set a = 1; commit", "select '; set x = 1'", "set local x = 1", "", "--;\n"] {
            assert!(!Traces::of_script(script).alters_session, "{script}");
        }
    }

    #[test]
    fn a_script_only_sets_where_each_of_its_statements_does() {
        for script in ["set x = 1; reset y;", "set x = ';'; -- insert\nlisten a", "", ";;"] {
            assert!(only_sets(script), "{script}");
        }
        for script in
            ["set x = 1; insert into t values (1)", "create table t (a int)", "set x = 1; select f()", "commit"]
        {
            assert!(!only_sets(script), "{script}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_looked_through_to_its_end(text in "[ -~\\n\u{e9}$'\"/*;-]{0,60}") {
            let ends = tokens(&text).count();
            assert!(ends <= text.len());
            let _ = (Shape::of(&text), Traces::of_script(&text), only_sets(&text));
        }
    }

    #[test]
    fn a_read_is_what_holds_no_word_that_changes() {
        for sql in ["SELECT 1", "(select 1) union (select 2)", "with a as (select 'insert') select * from a", "SHOW x"]
        {
            assert!(Shape::of(sql).reads, "{sql}");
        }
        let writes = ["with a as (insert into t values (1) returning id) select * from a", "select 1 into t"];
        for sql in writes.into_iter().chain(["insert into t select 1", "delete from t", "call f()"]) {
            assert!(!Shape::of(sql).reads, "{sql}");
        }
    }

    #[test]
    fn rows_that_were_only_read_are_not_counted_as_changes() {
        assert!(!Shape::of("with a as (delete from t returning id) select * from a").counts_changes);
        assert!(Shape::of("with a as (select ')' as x) insert into t select 1").counts_changes);
        assert!(!Shape::of("with \"insert\" as (select 1) table x").counts_changes);
        assert!(Shape::of("update t set a = 1 returning a").counts_changes);
    }
}
