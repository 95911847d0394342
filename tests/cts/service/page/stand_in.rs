//! A server that passes on the page of a real cts, and answers for its overview with a prepared one: a machine that has run for
//! days, and contents that a database has seldom.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::harness::Machine;

/// Minutes of a day.
const SAMPLES: u32 = 1440;

pub struct StandIn {
    address: SocketAddr,
    overview: Arc<Mutex<Value>>,
}

impl StandIn {
    /// Starts it with this overview.
    pub fn start(overview: Value) -> StandIn {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready();
        let page = service.get("/");
        let page = format!("{}\r\n\r\n{}", page.head, page.body);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let overview = Arc::new(Mutex::new(overview));
        let shared = Arc::clone(&overview);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (page, shared) = (page.clone(), Arc::clone(&shared));
                // The browser opens connections before it needs them.
                thread::spawn(move || answer(stream.unwrap(), &page, &shared));
            }
        });
        StandIn { address, overview }
    }

    pub fn address(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn set(&self, overview: Value) {
        *self.overview.lock().unwrap() = overview;
    }
}

fn answer(mut stream: TcpStream, page: &str, overview: &Mutex<Value>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let text = match first.starts_with("GET / ") {
        true => page.to_string(),
        false => {
            let body = overview.lock().unwrap().to_string();
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            )
        }
    };
    // The browser may have gone.
    let _ = stream.write_all(text.as_bytes());
}

/// A time this many seconds ago.
fn ago(seconds: u64) -> String {
    let at = SystemTime::now() - Duration::from_secs(seconds);
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let sql = format!("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', {since}, 'unixepoch')");
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}

const CATEGORIES: [(&str, &[(&str, u64)]); 7] = [
    ("system", &[("users", 4), ("system_settings", 63), ("site_logs", 48_211), ("migrations", 4)]),
    ("connections", &[("exchange_connections", 6)]),
    (
        "indications",
        &[
            ("indications_direction", 812_044),
            ("indications_move", 805_310),
            ("indications_active", 640_277),
            ("indications_optimal", 91_220),
            ("indications_auto", 33_108),
        ],
    ),
    (
        "strategies",
        &[
            ("strategies_base", 20_811),
            ("strategies_main", 15_402),
            ("strategies_real", 4_120),
            ("strategies_block", 960),
            ("strategies_dca", 311),
            ("strategies_trailing", 702),
        ],
    ),
    (
        "positions",
        &[
            ("pseudo_positions", 1_204_881),
            ("real_pseudo_positions", 88_201),
            ("exchange_positions", 21_906),
        ],
    ),
    (
        "statistics",
        &[
            ("statistics_indication", 9_120),
            ("statistics_strategy", 7_200),
            ("statistics_daily", 412),
        ],
    ),
    ("coordination", &[("connection_coordination", 6), ("indication_states", 30)]),
];

/// A healthy machine that has run for two days.
pub fn healthy() -> Value {
    let table = |(name, rows): &(&str, u64)| {
        let size = (rows * 310).next_multiple_of(4096).max(12_288);
        json!({"name": name, "exists": true, "isCritical": false, "rows": rows, "isExact": *rows < 100_000, "sizeBytes": size})
    };
    let categories = CATEGORIES.map(|(name, tables)| {
        json!({"name": name, "complete": true, "tables": tables.iter().map(table).collect::<Value>()})
    });
    let history = history();
    let now = |key: &str| history[key].as_array().unwrap().last().unwrap().clone();
    json!({
        "success": true, "status": "healthy", "sentence": "Everything expected is there and usable.",
        "reasons": [], "command": null,
        "database": {"type": "sqlite", "location": "/data/cts.db", "connected": true, "responseSeconds": 0.000_43,
            "sizeBytes": now("sizeBytes"), "walSizeBytes": now("walSizeBytes"), "diskFreeBytes": now("diskFreeBytes"),
            "diskTotalBytes": 118_000_000_000_u64, "pool": null},
        "tables": {"expected": 22, "existing": 22, "measuredAt": ago(214), "categories": categories,
            "others": [{"name": "_litestream_lock", "rows": 0, "isExact": true, "sizeBytes": 4096},
                {"name": "_litestream_seq", "rows": 1, "isExact": true, "sizeBytes": 4096}], "othersOmitted": 0},
        "migrations": {"status": "complete", "expected": 4, "applied": migrations(), "pending": []},
        "exceptions": [], "accepted": [], "history": history, "backups": backups(), "archive": archive(),
        "statistics": {"day": &ago(0)[..10], "trades": 148, "wins": 91, "losses": 57, "profit": 412.35, "winRate": 0.6149},
        "events": [
            {"at": ago(21_300), "level": "info", "message": "restored the last backup for a trial in 4.2 s"},
            {"at": ago(21_600), "level": "info", "message": "backup cts-20261129T003045Z.db: 1.5 GiB, proved"},
            {"at": ago(28_900), "level": "warning", "message": "order 88213 was rejected by the exchange: insufficient margin"},
            {"at": ago(32_500), "level": "info", "message": "הפקודה 88210 בוצעה במחיר 41,200.50"},
            {"at": ago(183_600), "level": "info", "message": "cts 3.1.0 serves on 127.0.0.1:3000"}],
        "version": "3.1.0", "commit": "5c2f81d09ab3", "startedAt": ago(183_600), "timestamp": ago(0)
    })
}

/// One with a table lost, and a note.
pub fn degraded() -> Value {
    let mut overview = healthy();
    overview["status"] = "degraded".into();
    overview["sentence"] = "The database can be used, and a person should attend to it.".into();
    overview["command"] = "cts repair".into();
    overview["reasons"] = json!([
        {"severity": "warning", "text": "table strategies_dca is missing; `cts repair` creates it, without rows"},
        {"severity": "notice", "text": "the log of the last start is not read: permission denied"}]);
    let category = &mut overview["tables"]["categories"][3];
    category["complete"] = false.into();
    category["tables"][4] =
        json!({"name": "strategies_dca", "exists": false, "isCritical": false, "rows": null});
    overview["tables"]["existing"] = 21.into();
    overview
}

fn migrations() -> Value {
    let names = [
        ("unified_complete_setup", 12),
        ("051_add_performance_indexes", 1840),
        ("070_high_frequency_performance_indexes", 2310),
        ("071_add_coordination_tables", 3),
    ];
    let row = |(at, (name, ms)): (usize, &(&str, u32))| {
        let checksum: String =
            (0..64).map(|digit| format!("{:x}", (digit * 7 + at * 11) % 16)).collect();
        json!({"id": at + 1, "name": name, "executedAt": ago(3_542_400 - at as u64), "executionSeconds": f64::from(*ms) / 1000.0, "checksum": checksum})
    };
    names.iter().enumerate().map(row).collect()
}

fn archive() -> Value {
    json!({"folder": "/mnt/usb/archive", "lagSeconds": 0.21, "newestAt": ago(1), "makesFullCopy": false, "gaps": 1,
        "sizeBytes": 734_003_200, "drill": {"at": ago(40_000), "moment": ago(40_010), "restoreSeconds": 6.1, "tables": 27,
            "comparedTables": 27, "compared_rows": 4_100_231, "failure": null}, "problem": null})
}

fn backups() -> Value {
    let backup = |number: u64| {
        let age = 21_600 + 86_400 * number;
        json!({"file": format!("cts-202611{:02}T003045Z.db", 29 - number), "madeAt": ago(age), "ageSeconds": age,
            "sizeBytes": 1_610_612_736 - 9_000_000 * number, "provedAt": ago(age - 36), "drilledAt": ago(age - 300),
            "restoreSeconds": 4.2, "problem": null})
    };
    json!({"automatic": true, "everySeconds": 86_400, "ageMaxSeconds": 172_800, "folder": "/data/backups", "count": 9,
        "last": backup(0), "nextDueAt": null, "problem": null, "list": (0..5).map(backup).collect::<Value>()})
}

/// A day that grows, with a WAL that is emptied again and again, and a quarter of an hour in which a person was needed.
fn history() -> Value {
    let (mut size, mut wal, mut free) = (1.62e9, 4e6, 6.55e10);
    let mut lists: [Vec<Value>; 5] = Default::default();
    let mut chance = 7_u32;
    for minute in 0..SAMPLES {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = f64::from(chance >> 8) / f64::from(1 << 24);
        let wave = (f64::from(minute) / 230.0).sin();
        size += random * 1.1e5 * (1.2 + wave);
        wal = if wal < 2.4e7 { wal + random * 4e5 } else { 4e6 };
        free += if minute == 1100 { 1.6e9 } else { -random * 1.8e6 };
        let response = 0.000_42 + 0.000_08 * wave + random * 0.000_12;
        let is_unknown = (700..712).contains(&minute);
        lists[0].push((size as u64).into());
        lists[1].push((wal as u64).into());
        lists[2].push((free as u64).into());
        lists[3].push(if is_unknown { Value::Null } else { response.into() });
        lists[4].push(if (700..731).contains(&minute) { "degraded" } else { "healthy" }.into());
    }
    let [sizes, wals, frees, responses, statuses] = lists;
    json!({"intervalSeconds": 60, "endsAt": ago(0), "sizeBytes": sizes, "walSizeBytes": wals, "diskFreeBytes": frees,
        "responseSeconds": responses, "status": statuses})
}
