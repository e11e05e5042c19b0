//! The other side: a company's customer service as HTTP on loopback, its data in SQLite. Each
//! answer takes as long as such services take.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tiny_http::{Request, Response, Server};

/// Starts the service and returns its address. It ends with the program.
pub(crate) fn start() -> Result<String, Box<dyn Error>> {
    let database = Arc::new(Mutex::new(database()?));
    let server = Arc::new(Server::http("127.0.0.1:0").map_err(|error| error.to_string())?);
    let address = format!("http://{}", server.server_addr());
    for _ in 0..8 {
        let (server, database) = (Arc::clone(&server), Arc::clone(&database));
        thread::Builder::new().name("service".into()).spawn(move || {
            while let Ok(request) = server.recv() {
                serve(request, &database);
            }
        })?;
    }
    Ok(address)
}

fn serve(request: Request, database: &Mutex<Connection>) {
    let url = request.url().to_owned();
    let parts: Vec<_> = url.trim_matches('/').split('/').collect();
    let (status, body) = match parts[..] {
        ["customers", id] => answer(400, || customer(&database.lock().unwrap(), id)),
        ["customers", id, "orders"] => answer(500, || orders(&database.lock().unwrap(), id)),
        ["customers", id, "tickets"] => answer(600, || tickets(&database.lock().unwrap(), id)),
        ["broken", ..] => answer(100, || Ok(None)),
        ["hangs", ..] => answer(60_000, || Ok(Some(json!([])))),
        _ => (404, json!({ "error": "no such path" })),
    };
    // Whoever asked may be gone; the service doesn't mind.
    let _ = request.respond(Response::from_string(body.to_string()).with_status_code(status));
}

fn answer(ms: u64, query: impl FnOnce() -> rusqlite::Result<Option<Value>>) -> (u16, Value) {
    thread::sleep(Duration::from_millis(ms));
    match query() {
        Ok(Some(value)) => (200, value),
        Ok(None) => (503, json!({ "error": "replica 3 of db-7.internal is down" })),
        Err(rusqlite::Error::QueryReturnedNoRows) => (404, json!({ "error": "no such customer" })),
        Err(error) => (500, json!({ "error": error.to_string() })),
    }
}

fn database() -> rusqlite::Result<Connection> {
    let database = Connection::open_in_memory()?;
    database.execute_batch(
        "create table customers (id integer primary key, name text, since text, plan text);
         create table orders (id integer primary key, customer integer, item text, cents integer,
                              state text);
         create table tickets (id integer primary key, customer integer, subject text, state text);
         insert into customers values (4711, 'Ada Byron', '2019-03-01', 'business');
         insert into orders values
             (90210, 4711, 'label printer', 18900, 'delivered'),
             (90344, 4711, 'label rolls, 12', 2940, 'delayed'),
             (90351, 4711, 'power supply', 2390, 'paid');
         insert into tickets values
             (551, 4711, 'Printer prints blank labels', 'open'),
             (498, 4711, 'Wrong invoice address', 'solved');",
    )?;
    Ok(database)
}

fn customer(database: &Connection, id: &str) -> rusqlite::Result<Option<Value>> {
    let query = "select id, name, since, plan from customers where id = ?1";
    let customer = database.query_row(query, params![id], |row| {
        Ok(json!({
            "id": row.get::<_, i64>(0)?,
            "name": row.get::<_, String>(1)?,
            "since": row.get::<_, String>(2)?,
            "plan": row.get::<_, String>(3)?,
        }))
    })?;
    Ok(Some(customer))
}

fn orders(database: &Connection, id: &str) -> rusqlite::Result<Option<Value>> {
    let query = "select id, item, cents, state from orders where customer = ?1 order by id desc";
    let mut statement = database.prepare(query)?;
    let rows = statement.query_map(params![id], |row| {
        Ok(json!({
            "order": row.get::<_, i64>(0)?,
            "item": row.get::<_, String>(1)?,
            "euros": format!("{:.2}", row.get::<_, f64>(2)? / 100.0),
            "state": row.get::<_, String>(3)?,
        }))
    })?;
    rows.collect::<rusqlite::Result<_>>().map(|rows| Some(Value::Array(rows)))
}

fn tickets(database: &Connection, id: &str) -> rusqlite::Result<Option<Value>> {
    let query = "select id, subject, state from tickets where customer = ?1 order by id desc";
    let mut statement = database.prepare(query)?;
    let rows = statement.query_map(params![id], |row| {
        Ok(json!({
            "ticket": row.get::<_, i64>(0)?,
            "subject": row.get::<_, String>(1)?,
            "state": row.get::<_, String>(2)?,
        }))
    })?;
    rows.collect::<rusqlite::Result<_>>().map(|rows| Some(Value::Array(rows)))
}
