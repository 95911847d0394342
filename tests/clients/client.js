// A trading program in Node: `client.js writer|reader DATABASE SECONDS`.
//
// Prints as JSON how many transactions it made, how often SQLite said SQLITE_BUSY, and how long the longest took.

// docs/sqlite.md
const Database = require('better-sqlite3');

function connect(path) {
  const db = new Database(path, { fileMustExist: true, timeout: 5000 });
  db.pragma('synchronous = NORMAL');
  db.pragma('cache_size = -65536');
  db.pragma('wal_autocheckpoint = 10000');
  db.pragma('foreign_keys = ON');
  return db;
}

// db.transaction(work) returns a function: call its .immediate(), not the function itself.
// docs/sqlite.md

const SYMBOLS = ['BTCUSDT', 'ETHUSDT', 'SOLUSDT'];
const [role, path, seconds] = process.argv.slice(2);
const db = connect(path);

const limit = db.prepare(`SELECT count(*) FROM pseudo_positions WHERE connection_id = ? AND symbol = ?
  AND indication_type = 'move' AND side = 'long' AND status = 'active'`);
const open = db.prepare('INSERT INTO pseudo_positions (connection_id, symbol, indication_type, entry_price) VALUES (?, ?, ?, ?)');
const log = db.prepare("INSERT INTO site_logs (level, category, message) VALUES ('info', 'orders', 'opened')");
const live = db.prepare("SELECT id, opened_at FROM pseudo_positions WHERE connection_id = 'bybit-x03' AND status = 'active' ORDER BY opened_at DESC LIMIT 20");

const write = db.transaction((symbol) => {
  limit.get('bybit-x03', symbol);
  open.run('bybit-x03', symbol, 'move', 1.5);
  log.run();
});

function read(symbol) {
  live.all();
  limit.get('bybit-x03', symbol);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function main() {
  const seen = { transactions: 0, busy: 0, longest_ms: 0 };
  const end = performance.now() + seconds * 1000;
  for (let begun = performance.now(); begun < end; begun = performance.now()) {
    const symbol = SYMBOLS[(process.pid + seen.transactions) % SYMBOLS.length];
    try {
      role === 'writer' ? write.immediate(symbol) : read(symbol);
      seen.transactions += 1;
    } catch (error) {
      if (!error.code?.startsWith('SQLITE_BUSY')) throw error;
      seen.busy += 1;
    }
    seen.longest_ms = Math.max(seen.longest_ms, performance.now() - begun);
    await pause(role === 'writer' ? 10 : 2);
  }
  console.log(JSON.stringify(seen));
}

main();
