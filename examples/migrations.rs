//! A schema that grows: texts, a closure, a table made anew, and what a second start finds to do.
//!
//! `cargo run --features vendored-openssl --example migrations`

use strongroom::database::migrations::{MigrateOptions, Migration, MigrationState, Migrations};
use strongroom::{AsyncDatabase, PassphraseKeySource, Result};

/// The schema of the first version of a program.
fn first_version() -> Migrations {
    Migrations::new().sql(1, "customers", "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)").sql(
        2,
        "orders",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, cents INTEGER)",
    )
}

/// The second one makes names required, which SQLite can only do by making the table anew.
fn second_version() -> Migrations {
    first_version()
        .code(3, "name the nameless", async |tx| {
            for row in tx.fetch_all("SELECT id FROM customers WHERE name IS NULL", ()).await? {
                let id: i64 = row.get("id")?;
                tx.execute("UPDATE customers SET name = $1 WHERE id = $2", (format!("customer {id}"), id)).await?;
            }
            Ok(())
        })
        .add(
            Migration::sql(
                4,
                "names are required",
                "CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
                 INSERT INTO rebuilt SELECT id, name FROM customers;
                 DROP TABLE customers;
                 ALTER TABLE rebuilt RENAME TO customers",
            )
            .without_foreign_keys(),
        )
        .add(Migration::sql(5, "compact", "VACUUM").outside_transaction().repeatable())
}

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("strongroom-migrations-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let key = || PassphraseKeySource::new("correct horse");
    let path = directory.join("shop.db");

    let db = AsyncDatabase::builder(&path).key(key()).open().await?;
    println!("the first version runs {}", db.migrate(&first_version()).await?.ran.len());
    db.execute_script("INSERT INTO customers VALUES (1, 'alice'), (2, NULL); INSERT INTO orders VALUES (1, 2, 500)")
        .await?;

    for step in db.migration_plan(&second_version()).await?.pending {
        println!("the second version will run {} ({})", step.version, step.name);
    }
    let options = MigrateOptions::new().on_progress(|now| {
        if now.state == MigrationState::Begins {
            println!("{} of {}: {}", now.number, now.total, now.name);
        }
    });
    let report = db.migrate_with(&second_version(), options).await?;
    println!("the schema is at {}", report.version.unwrap_or_default());
    println!("a second start runs {}", db.migrate(&second_version()).await?.ran.len());
    let name: Option<String> = db.fetch_value("SELECT name FROM customers WHERE id = 2", ()).await?;
    println!("number 2 is {}", name.unwrap_or_default());

    let old = db.migrate(&first_version()).await.expect_err("the old program meets a newer schema");
    println!("{old}");
    db.close().await?;
    std::fs::remove_dir_all(&directory).expect("removed");
    Ok(())
}
