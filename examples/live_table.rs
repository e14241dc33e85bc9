//! A page that shows a table as it is, without asking again and again: the server watches the rows, and pushes them to
//! each browser by server-sent events. With an address it serves until it is stopped:
//!
//!     cargo run --features vendored-openssl --example live_table -- 127.0.0.1:8080
//!
//! Without one it is its own browser for a moment.

use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Orders</title>
<form onsubmit="fetch('/orders', { method: 'POST', body: item.value }); item.value = ''; return false">
<input id="item" placeholder="one more order" autofocus></form><table id="orders"></table>
<script>
new EventSource('/orders').onmessage = message => {
    const row = order => Object.assign(document.createElement('tr'), { innerText: `${order.id}: ${order.item}` });
    document.getElementById('orders').replaceChildren(...JSON.parse(message.data).map(row));
};
</script>"#;

#[derive(Deserialize, Serialize)]
struct Order {
    id: i64,
    item: String,
}

/// The rows now, and whenever they have changed. A browser that has gone drops the stream, which leaves nothing behind.
async fn watch(State(db): State<AsyncDatabase>) -> Sse<impl Stream<Item = Result<Event, axum::BoxError>>> {
    let orders = db.watch_as::<Order>("SELECT id, item FROM orders ORDER BY id DESC LIMIT 20", ());
    let events = orders.map(|orders| Ok(Event::default().data(serde_json::to_string(&orders?)?)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn order(State(db): State<AsyncDatabase>, item: String) -> impl IntoResponse {
    match db.execute("INSERT INTO orders (item) VALUES ($1)", (item,)).await {
        Ok(_) => StatusCode::CREATED,
        Err(error) => {
            eprintln!("{error}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// What a browser does.
async fn request(server: impl ToSocketAddrs, request: &str, body: &str) -> io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(server).await?;
    let text = format!("{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    Ok(BufReader::new(stream))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let key = PassphraseKeySource::new(Secret::raw_key([7; 32]));
    let db = AsyncDatabase::builder(directory.path().join("shop.db")).key(key).open().await?;
    db.execute_script("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL CHECK (item <> ''))").await?;

    let service = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/orders", get(watch).post(order))
        .with_state(db.clone());
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let here = listener.local_addr()?;
    let server = tokio::spawn(axum::serve(listener, service).into_future());
    if address.is_some() {
        return Ok(server.await??);
    }

    let mut page = String::new();
    request(here, "GET /", "").await?.read_to_string(&mut page).await?;
    println!("the page: {}", page.lines().find(|line| line.contains("<title>")).unwrap_or("none"));
    let mut events = request(here, "GET /orders", "").await?.lines();
    for item in ["tea", "cake", "", "more tea"] {
        let mut answer = request(here, "POST /orders", item).await?.lines();
        println!("an order for {item:?}: {}", answer.next_line().await?.unwrap_or_default());
    }
    // A browser may be slow: what it gets may be the table after several orders, but the last state comes.
    while let Some(line) = events.next_line().await? {
        let Some(rows) = line.strip_prefix("data: ") else { continue };
        let orders: Vec<Order> = serde_json::from_str(rows)?;
        if orders.len() == 3 {
            println!("the table: {rows}");
            break;
        }
    }
    db.execute("DELETE FROM orders WHERE item = 'cake'", ()).await?;
    while let Some(line) = events.next_line().await? {
        if let Some(rows) = line.strip_prefix("data: ") {
            println!("without cake: {rows}");
            break;
        }
    }
    db.close().await?;
    while events.next_line().await?.is_some() {}
    println!("the stream ends with the database");
    server.abort();
    Ok(())
}
