//! One statement with many sets of parameters.
//!
//! A plain `INSERT INTO table (columns) VALUES ($1, $2...)` into a table where the effect is the same travels as one
//! COPY; everything else is sent ahead, so that the server never waits for us.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::try_join;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Column};

use super::cache::{CopyPlan, Prepared};
use super::copy::copy_in;
use super::sending::fit;
use super::words::tokens;
use crate::error::{Phase, Result};
use crate::params::lexer::Token;
use crate::params::{ArrangedSets, ParamSets, Style};
use crate::postgres::connection::PostgresConnection;
use crate::postgres::values::base;
use crate::postgres::wire::{Fault, SessionCall, SessionTransaction};
use crate::row::Changes;

/// Below this many, asking the catalog costs more than COPY saves.
const WORTH_A_COPY: usize = 32;

/// A COPY is ended after so many bytes, and its answer looked at, before more is sent.
const LONGEST_COPY: usize = 16 << 20;

const COPY: SessionCall = SessionCall::Statement { reads: false };

/// How many statements are sent ahead of their answers.
const AHEAD: usize = 128;

impl PostgresConnection {
    /// `None` when the answer comes with the end of the COPY.
    ///
    /// Where nothing may be kept prepared, the statement is prepared for as long as the transaction lasts, during which a
    /// pooler leaves us the same session; see [`ready`](Self::ready).
    pub(crate) async fn add_prepared_many(
        &mut self,
        sql: &Arc<str>,
        sets: ParamSets,
        way: &mut BulkWay,
    ) -> Result<Option<Changes>> {
        let cached = self.cache.peek(sql).is_some();
        let outcome = self.add_sets(sql, sets, way).await;
        outcome.map_err(|error| if cached { self.forget_stale(sql, error) } else { error })
    }

    async fn add_sets(&mut self, sql: &Arc<str>, sets: ParamSets, way: &mut BulkWay) -> Result<Option<Changes>> {
        let in_transaction = self.session.transaction == SessionTransaction::Open;
        if self.cache.is_off() && !in_transaction {
            return self.run_one_by_one(sql, &sets).await.map(Some);
        }
        let copying = self.copying.take();
        let (mut prepared, cached) = match &copying {
            Some(copying) => (Arc::clone(&copying.prepared), false),
            None => self.prepare(sql).await?,
        };
        // Of the text alone, so it holds for every time it is prepared.
        let arranged = Arc::clone(&prepared);
        let arranged = arranged.placeholders.look_up_all(&sets)?;
        if cached && self.any_is_lossy(&prepared, &arranged) {
            prepared = self.prepare_anew(sql).await?;
        }
        let copies = copying.is_some() || (self.bulk_copy && sets.len() >= WORTH_A_COPY);
        if copies && (!in_transaction || matches!(way, BulkWay::Unasked)) {
            *way = Box::pin(self.find_way(sql, &prepared)).await?;
        }
        let plan = match way {
            BulkWay::Copy(plan) if copies => Arc::clone(plan),
            _ => return self.send_all(&prepared, &arranged).await.map(Some),
        };
        let mut binary = None;
        if copying.is_none() && in_transaction {
            if !plan.fits(&prepared) {
                prepared = self.prepare_anew(sql).await?;
            }
            if plan.fits(&prepared) {
                binary = Some(self.prepare_binary(&plan, &prepared).await?);
            }
        }
        // Dropped meanwhile, the COPY is given up.
        self.copying = {
            let answer = pin!(copy_in(&self.client, &plan, binary, &prepared, &arranged, copying));
            self.session.during(COPY, answer).await?
        };
        let goes_on = in_transaction && self.copying.as_ref().is_some_and(|copying| copying.sent < LONGEST_COPY);
        if !goes_on {
            return self.end_copy().await.map(Some);
        }
        self.session.call = Some(COPY);
        Ok(None)
    }

    /// Each set as a statement of its own, prepared once.
    ///
    /// Inside a transaction they are sent ahead: behind one that fails, the server refuses the rest. Outside it would go
    /// on with them, so there each waits for the answer to the one before.
    async fn send_all(&mut self, prepared: &Prepared, sets: &ArrangedSets<'_>) -> Result<Changes> {
        let call = SessionCall::Statement { reads: prepared.shape.reads };
        self.session.note(prepared.shape.traces);
        let ahead = if self.session.transaction == SessionTransaction::Open { AHEAD } else { 1 };
        let answer = pin!(send_ahead(&self.client, prepared, sets, ahead));
        match self.session.during(call, answer).await? {
            Ok(counted) => Ok(Changes::new(if prepared.shape.counts_changes { counted } else { 0 }, None)),
            Err(unfit) => {
                // Those that were sent before it may still run; the next call stops them.
                self.session.call = Some(call);
                Err(unfit.during(Phase::Statement))
            }
        }
    }

    /// Each set as a statement of its own, parsed each time: the server then finds out what a value is.
    async fn run_one_by_one(&mut self, sql: &Arc<str>, sets: &ParamSets) -> Result<Changes> {
        let mut changed = 0;
        for params in sets.iter() {
            let (ready, values, _) = self.get_ready(sql, params).await?;
            changed += self.execute(&ready, &values, false, None).await?.changes().rows_affected;
        }
        Ok(Changes::new(changed, None))
    }

    /// Whether a cached type would not keep one of the values whole.
    fn any_is_lossy(&self, prepared: &Prepared, sets: &ArrangedSets<'_>) -> bool {
        let (count, utc) = (prepared.types.len(), self.session.link.is_utc());
        sets.iter().any(|set| prepared.loses((0..count).map(|index| set.get(index)), utc))
    }

    /// Ends the COPY that is open, and says how many rows it inserted.
    pub(crate) async fn end_copy(&mut self) -> Result<Changes> {
        let Some(copying) = self.copying.take() else { return Ok(Changes::default()) };
        let answer = pin!(copying.finish());
        Ok(Changes::new(self.session.during(COPY, answer).await?, None))
    }

    /// The COPY in binary form, which is kept prepared beside the statement for as long as its text is the same.
    async fn prepare_binary(&mut self, plan: &CopyPlan, prepared: &Prepared) -> Result<tokio_postgres::Statement> {
        let kept = prepared.copy.lock().clone();
        if let Some((_, copy)) = kept.filter(|(text, _)| *text == plan.copy) {
            return Ok(copy);
        }
        let text = format!("{} (FORMAT binary)", plan.copy);
        let answer = pin!(async { Ok(self.client.prepare(&text).await?) });
        let copy = self.session.during(SessionCall::Statement { reads: true }, answer).await?;
        let old = prepared.copy.lock().replace((Arc::clone(&plan.copy), copy.clone()));
        drop(old);
        Ok(copy)
    }

    /// Whether a COPY does the same as the statement. Asked for every bulk insert, as anybody may change the table between
    /// two; in one round trip. Within a transaction, parsing the first question locks the table against changes until the
    /// transaction ends, and the second is about the table as it then stays. Outside, nothing tells which columns come
    /// first at the moment when the COPY begins.
    async fn find_way(&mut self, sql: &str, prepared: &Prepared) -> Result<BulkWay> {
        let in_transaction = self.session.transaction == SessionTransaction::Open;
        let insert = Insert::read(&prepared.placeholders.rewrite(sql));
        let Some(insert) = insert.filter(|insert| in_transaction || insert.columns.is_some()) else {
            return Ok(BulkWay::Statements);
        };
        let all = format!("SELECT * FROM {}", insert.table);
        let (seen, rows) = {
            let answers = pin!(async {
                let table = [(&insert.table as _, Type::TEXT)];
                Ok(try_join(self.client.prepare(&all), self.client.query_typed(COLUMNS, &table)).await?)
            });
            self.session.during(SessionCall::Statement { reads: true }, answers).await?
        };
        let columns = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        let columns: Result<Vec<_>, tokio_postgres::Error> = columns.collect();
        let types = self.column_types(&seen).await?;
        let seen = seen.columns().iter().map(Column::name).zip(types).collect::<Vec<_>>();
        let plan = columns.ok().and_then(|columns| insert.plan(&columns, &seen));
        Ok(plan.map_or(BulkWay::Statements, |plan| BulkWay::Copy(Arc::new(plan))))
    }
}

/// How the sets of a bulk insert travel.
#[derive(Debug, Default)]
pub(crate) enum BulkWay {
    #[default]
    Unasked,
    Statements,
    Copy(Arc<CopyPlan>),
}

/// The columns of a table, if COPY into it does what INSERT does: rules, which COPY passes by, row security, which it
/// does not support, and triggers, which it may call less often, must be absent. Of a column that is always generated,
/// INSERT would refuse the value and COPY take it.
const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.quote_ident(a.attname), a.attidentity <> 'a' AND a.attgenerated = '' \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
    WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind IN ('r', 'p') AND NOT c.relhasrules \
    AND NOT pg_catalog.row_security_active(c.oid) AND a.attnum > 0 AND NOT a.attisdropped \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) \
    ORDER BY a.attnum";

/// `INSERT INTO table [(columns)] VALUES ($1, $2...)`, and nothing else.
struct Insert {
    table: String,
    /// As the catalog spells them; `None` for the first columns of the table.
    columns: Option<Vec<String>>,
    values: usize,
}

impl Insert {
    fn read(sql: &str) -> Option<Self> {
        let mut tokens = tokens(sql).peekable();
        (tokens.next()?.is("INSERT") && tokens.next()?.is("INTO")).then_some(())?;
        let mut table = name(tokens.next()?)?.0;
        while tokens.next_if_eq(&Token::Symbol(b'.')).is_some() {
            table = format!("{table}.{}", name(tokens.next()?)?.0);
        }
        let columns = if tokens.next_if_eq(&Token::Symbol(b'(')).is_some() {
            Some(list(&mut tokens, |token| name(token).map(|name| name.1))?)
        } else {
            None
        };
        (tokens.next()?.is("VALUES") && tokens.next()? == Token::Symbol(b'(')).then_some(())?;
        let parameter = |token| match token {
            Token::Placeholder(Style::Dollar, number) => number.parse::<usize>().ok(),
            _ => None,
        };
        let numbers = list(&mut tokens, parameter)?;
        tokens.next_if_eq(&Token::Symbol(b';'));
        let ordered = numbers.iter().copied().eq(1..=numbers.len());
        let fits = columns.as_ref().is_none_or(|columns| columns.len() == numbers.len());
        (tokens.next().is_none() && ordered && fits).then_some(Self { table, columns, values: numbers.len() })
    }

    /// `found`: name, quoted name, and whether a value may be given, of each column in order. `seen`: the same columns as
    /// the parser knows them; a transaction that began earlier may find others in the catalog.
    fn plan(&self, found: &[(String, String, bool)], seen: &[(&str, Type)]) -> Option<CopyPlan> {
        found.iter().map(|column| column.0.as_str()).eq(seen.iter().map(|column| column.0)).then_some(())?;
        let all = || found.iter().zip(seen);
        let chosen: Vec<_> = match &self.columns {
            None => all().take(self.values).collect(),
            Some(columns) => {
                let find = |name: &String| all().find(|column| column.0.0 == *name);
                columns.iter().map(find).collect::<Option<_>>()?
            }
        };
        (chosen.len() == self.values && chosen.iter().all(|(column, _)| column.2)).then_some(())?;
        let columns: Vec<&str> = chosen.iter().map(|(column, _)| column.1.as_str()).collect();
        Some(CopyPlan {
            copy: format!("COPY {} ({}) FROM STDIN", self.table, columns.join(", ")).into(),
            types: chosen.iter().map(|(_, seen)| base(&seen.1).clone()).collect(),
        })
    }
}

/// A name as it is written, and as the catalog spells it.
fn name(token: Token<'_>) -> Option<(String, String)> {
    match token {
        Token::Word(word) if word.is_ascii() => Some((word.to_owned(), word.to_ascii_lowercase())),
        Token::Quoted(quoted) => {
            let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
            Some((quoted.to_owned(), inner.replace("\"\"", "\"")))
        }
        _ => None,
    }
}

/// What stands between commas, up to the closing parenthesis.
fn list<'s, T>(tokens: &mut impl Iterator<Item = Token<'s>>, item: impl Fn(Token<'s>) -> Option<T>) -> Option<Vec<T>> {
    let mut items = Vec::new();
    loop {
        items.push(item(tokens.next()?)?);
        match tokens.next()? {
            Token::Symbol(b',') => {}
            Token::Symbol(b')') => return Some(items),
            _ => return None,
        }
    }
}

/// Sends statements before the answers to earlier ones are here, in order, at most `ahead` at a time. Ends with the
/// first set whose values do not fit, without waiting for those that were sent before it.
async fn send_ahead(
    client: &Client,
    prepared: &Prepared,
    sets: &ArrangedSets<'_>,
    ahead: usize,
) -> Result<Result<u64>, Fault> {
    let mut counted = 0;
    let mut waiting: VecDeque<CopyAnswer<'_>> = VecDeque::with_capacity(ahead);
    let count = prepared.types.len();
    for values in sets.iter() {
        if waiting.len() == ahead {
            counted += next(&mut waiting).await?;
        }
        let parameters = match fit(prepared, (0..count).map(|index| values.get(index))) {
            Ok(parameters) => parameters,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let mut answer: CopyAnswer<'_> = Box::pin(client.execute_raw(&prepared.statement, parameters));
        // The driver sends a statement when its future is polled first; doing that here keeps them in order.
        match poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await {
            Poll::Ready(count) => counted += count?,
            Poll::Pending => waiting.push_back(answer),
        }
    }
    while !waiting.is_empty() {
        counted += next(&mut waiting).await?;
    }
    Ok(Ok(counted))
}

type CopyAnswer<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

async fn next(waiting: &mut VecDeque<CopyAnswer<'_>>) -> Result<u64, Fault> {
    match waiting.pop_front() {
        Some(answer) => Ok(answer.await?),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_insert_is_read() {
        let insert = Insert::read("insert into public.\"T\" (a, \"B\"\"c\") values ($1, $2);").unwrap();
        assert_eq!((insert.table.as_str(), insert.values), ("public.\"T\"", 2));
        assert_eq!(insert.columns.unwrap(), ["a", "B\"c"]);
        assert!(Insert::read("INSERT INTO t VALUES ($1)").is_some());
        let others = [
            "INSERT INTO t VALUES ($2, $1)",
            "INSERT INTO t VALUES ($1, $1)",
            "INSERT INTO t VALUES ($1, 2)",
            "INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING",
            "INSERT INTO t VALUES ($1) RETURNING id",
            "INSERT INTO t AS x VALUES ($1)",
            "INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES ($1)",
            "INSERT INTO t (a, b) VALUES ($1)",
            "INSERT INTO t VALUES (cast($1 as int))",
            "INSERT INTO t VALUES ($1), ($2)",
            "WITH x AS (SELECT 1) INSERT INTO t VALUES ($1)",
            "UPDATE t SET a = $1",
        ];
        for sql in others {
            assert!(Insert::read(sql).is_none(), "{sql}");
        }
    }
}
