//! sqlx with its own pool.

use std::hint::black_box;

use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::{ALL, BULK, COPY, INSERT, POOL, READ, Side, TEXT, Work, common};

#[derive(Clone)]
pub struct Sqlx(PgPool);

impl Sqlx {
    pub async fn open(port: u16) -> Self {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .database("postgres")
            .username("app")
            .password(common::PASSWORD);
        let pool = PgPoolOptions::new().max_connections(POOL).test_before_acquire(false);
        Self(pool.connect_with(options).await.unwrap())
    }
}

impl Side for Sqlx {
    async fn once(&self, work: Work, id: i64) {
        let db = &self.0;
        match work {
            Work::Read => {
                black_box(sqlx::query_scalar::<_, String>(READ).bind(id).fetch_one(db).await.unwrap());
            }
            Work::Insert => {
                sqlx::query(INSERT).bind(id).bind(TEXT).bind(0.5).execute(db).await.unwrap();
            }
            Work::Transaction => {
                let mut transaction = db.begin().await.unwrap();
                for _ in 0..100 {
                    let insert = sqlx::query(INSERT).bind(id).bind(TEXT).bind(0.5);
                    insert.execute(&mut *transaction).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            Work::Bulk => {
                let a: Vec<i64> = (0..BULK).collect();
                let b: Vec<&str> = vec![TEXT; a.len()];
                let c: Vec<f64> = a.iter().map(|a| *a as f64 / 3.0).collect();
                let sql = "INSERT INTO log (a, b, c) SELECT * FROM unnest($1::bigint[], $2::text[], $3::float8[])";
                sqlx::query(sql).bind(a).bind(b).bind(c).execute(db).await.unwrap();
            }
            Work::Copy => {
                let mut connection = db.acquire().await.unwrap();
                let mut sink = connection.copy_in_raw(COPY).await.unwrap();
                let mut piece = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
                for a in 0..BULK {
                    piece.extend(3_i16.to_be_bytes());
                    piece.extend(8_i32.to_be_bytes());
                    piece.extend(a.to_be_bytes());
                    piece.extend(i32::try_from(TEXT.len()).unwrap().to_be_bytes());
                    piece.extend(TEXT.as_bytes());
                    piece.extend(8_i32.to_be_bytes());
                    piece.extend((a as f64 / 3.0).to_be_bytes());
                    if piece.len() > 60_000 {
                        sink.send(std::mem::take(&mut piece)).await.unwrap();
                    }
                }
                piece.extend((-1_i16).to_be_bytes());
                sink.send(piece).await.unwrap();
                sink.finish().await.unwrap();
            }
            Work::Fetch => {
                for row in sqlx::query(ALL).fetch_all(db).await.unwrap() {
                    let values: (i64, i64, &str, f64) = (row.get(0), row.get(1), row.get(2), row.get(3));
                    black_box(values);
                }
            }
        }
    }
}
