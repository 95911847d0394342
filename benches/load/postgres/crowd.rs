//! Eight writers and four readers on one PostgreSQL database, each with a connection of its own, while
//! autovacuum works.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use crate::Result;
use crate::crowd::{READERS, WRITERS};
use crate::figures::{Goal, Line, Spread, quantile};
use crate::postgres::lookups::run;
use crate::postgres::parameters::{borrowed, parameters, with_dollars};
use crate::postgres::side::{PostgresSide, live_positions};
use crate::random::Random;
use crate::rows::{BIG, Order, Table};
use crate::shapes::{Binder, shape};
use crate::worker::{READ, READER_PAUSE, WRITER_PAUSE};
use crate::world::{Moment, World};

/// Durations of the transactions, in milliseconds.
#[derive(Default)]
struct Durations {
    writes: Vec<f64>,
    reads: Vec<f64>,
}

/// Each side works for this many seconds.
pub fn measure(sides: [&PostgresSide; 2], rows: u64, seconds: u64) -> Result<Vec<Line>> {
    let baseline = work(sides[1], rows, seconds)?;
    let ours = work(sides[0], rows, seconds)?;
    let line = |what: &str, unit, figure: fn(&Durations) -> Spread| {
        let title = format!("{WRITERS} writers, {READERS} readers: {what}");
        Line::new(title, rows, unit, figure(&ours)).beside(figure(&baseline))
    };
    let per_second = |durations: &Durations| durations.writes.len() as f64 / seconds as f64;
    let rate = line("transactions", "per s", |_| 0.0.into());
    Ok(vec![
        line("write transaction", "ms", |durations| Spread::of(&durations.writes))
            .goal(Goal::RatioAtMost(1.15)),
        line("longest write", "ms", |durations| quantile(&durations.writes, 1.0).into()),
        line("read", "ms", |durations| Spread::of(&durations.reads)),
        Line { ours: per_second(&ours).into(), ..rate }.beside(per_second(&baseline).into()),
    ])
}

fn work(side: &PostgresSide, rows: u64, seconds: u64) -> Result<Durations> {
    let end = Instant::now() + Duration::from_secs(seconds);
    // The error of a thread as text, since errors of this program do not cross threads.
    let text = |error: Box<dyn std::error::Error>| error.to_string();
    let all = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| scope.spawn(move || write(side, rows, number, end).map_err(text)))
            .collect();
        let readers: Vec<_> = (0..READERS)
            .map(|number| scope.spawn(move || read(side, rows, number, end).map_err(text)))
            .collect();
        let joined =
            |threads: Vec<thread::ScopedJoinHandle<std::result::Result<Vec<f64>, String>>>| {
                threads
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| "a thread has panicked".to_owned())?)
                    .collect::<std::result::Result<Vec<_>, String>>()
            };
        Ok::<_, String>(Durations {
            writes: joined(writers)?.concat(),
            reads: joined(readers)?.concat(),
        })
    });
    Ok(all?)
}

/// Checks a limit, as a program does before it opens a position, then inserts a row into each large table.
fn write(side: &PostgresSide, rows: u64, number: u64, end: Instant) -> Result<Vec<f64>> {
    let (world, mut client) = (World::new(), side.connect()?);
    let limit = shape("H10")?;
    let check = client.prepare(&with_dollars(limit.sql))?;
    let mut inserts = Vec::new();
    for table in BIG.iter().filter_map(|name| Table::named(name)) {
        inserts.push((table, client.prepare(&table.insert_many(1))?));
    }
    let random = Random::new(number << 1);
    let mut binder = Binder { world: &world, random, now: Moment(rows), live: &[] };
    let mut samples = Vec::new();
    for turn in 0.. {
        if Instant::now() > end {
            break;
        }
        let question = parameters(&binder.draw(&limit), check.params())?;
        let mut new = Vec::new();
        for (table, insert) in &inserts {
            let number = table.count(rows) + turn * 100 + number;
            let row = table.row(&world, number, true, Order::Scattered);
            new.push((insert, parameters(&row, insert.params())?));
        }
        let begun = Instant::now();
        client.batch_execute("BEGIN")?;
        run(&mut client, &check, &question)?;
        for (insert, row) in &new {
            client.execute(*insert, &borrowed(row))?;
        }
        client.batch_execute("COMMIT")?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(binder.random.below(2 * WRITER_PAUSE)));
    }
    Ok(samples)
}

fn read(side: &PostgresSide, rows: u64, number: u64, end: Instant) -> Result<Vec<f64>> {
    let (world, mut client) = (World::new(), side.connect()?);
    let live = live_positions(&mut client)?;
    let reads = prepared(&mut client)?;
    let random = Random::new(number << 1 | 1);
    let mut binder = Binder { world: &world, random, now: Moment(rows), live: &live };
    let mut samples = Vec::new();
    while Instant::now() < end {
        let which = binder.random.below(reads.len() as u64) as usize;
        let values = binder.draw(&shape(READ[which])?);
        let values = parameters(&values, reads[which].params())?;
        let begun = Instant::now();
        run(&mut client, &reads[which], &values)?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(binder.random.below(2 * READER_PAUSE)));
    }
    Ok(samples)
}

fn prepared(client: &mut Client) -> Result<Vec<Statement>> {
    READ.iter().map(|number| Ok(client.prepare(&with_dollars(shape(number)?.sql))?)).collect()
}
