//! Which server of a URL is used: servers of other clusters, old primaries, copies, and servers that cannot be told apart.

use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database, number};
use crate::support::harness::{Service, await_that};

const HEALTH: &str = "/api/health/database";
/// Longest time until a promoted standby is used.
const FOUND_WITHIN: Duration = Duration::from_secs(6);

/// A URL with both servers, in this order.
fn url(database: &Database, first: &Cluster, second: &Cluster) -> String {
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port, second.port);
    database.url_to(&hosts, "sslmode=disable")
}

fn is_used(server: &Cluster, database: &Database) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cts' AND usename =";
    number(&mut server.admin(&database.name), &format!("{sql} '{}'", database.name)) > 0
}

/// The reasons of the present health answer, once it has this status.
fn reasons(service: &Service, status: &str) -> String {
    service.until_status(status).json()["reasons"].to_string()
}

fn says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is missing:\n{text}"));
}

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
const ENTRIES: &str = "SELECT count(*) FROM site_logs";

#[test]
fn a_server_of_another_cluster_is_never_used_in_place_of_ours() {
    let first = Cluster::builder().start();
    let second = Cluster::builder().of_another_cluster().start();
    let database = first.owned();
    database.cts("migrate").success();
    let empty = database.recreated_on(&second);
    let both = url(&database, &first, &second);
    let service = database.serve().env("DATABASE_URL", &both).start();
    service.until_ready();
    // Programs with this URL might write to either.
    let (a, b) = (format!("127.0.0.1:{}", first.port), format!("127.0.0.1:{}", second.port));
    let named = ["2 servers of the URL can be written: ", &a, &b, "in use", "system_identifier"];
    says(&reasons(&service, "degraded"), &named);
    let checked = database.cts("--check").env("DATABASE_URL", &both).status(1);
    checked.says(&["CTS WARNING - postgresql, 22/22 core tables", &a, &b]);
    let examined = database.cts("doctor").env("DATABASE_URL", &both).run();
    examined.says(&["2 servers of the URL can be written: ", &a, &b]);

    first.kill();
    let refused = [&*format!("{b}: another cluster: its system_identifier is "), &*a];
    says(&reasons(&service, "unhealthy"), &refused);
    // Longer than the proof of writing, and what follows a failover, take to come round.
    service.until("⚠ The database cannot be used: ");
    await_that("it was tried again and again", || {
        second.log().matches("connection authorized").count() > 0 || service.get(HEALTH).code == 503
    });
    assert_eq!(empty.number(TABLES), 0);
    first.start_again();
    says(&reasons(&service, "degraded"), &named);
    assert_eq!(empty.number(TABLES), 0);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn nothing_is_created_while_a_host_that_may_hold_the_database_does_not_answer() {
    let first = Cluster::builder().start();
    let second = Cluster::builder().of_another_cluster().start();
    let database = first.owned();
    database.cts("migrate").success();
    let empty = database.recreated_on(&second);
    first.kill();
    let both = url(&database, &first, &second);
    let (a, b) = (format!("127.0.0.1:{}", first.port), format!("127.0.0.1:{}", second.port));
    for words in ["migrate", "serve --port 0"] {
        let run = database.cts(words).env("DATABASE_URL", &both).env("CTS_WAIT", "1s");
        let refused =
            format!("there is no table of CTS on {b}, and none is created: {a} may hold them (");
        run.status(69).says(&[&refused, "waited 1s", "name only that host in the URL"]);
        assert_eq!(empty.number(TABLES), 0, "{words}");
    }
    database.cts("migrate --dry-run").env("DATABASE_URL", &both).status(69);
    // It comes while it is waited for.
    let service = database.serve().env("DATABASE_URL", &both).start();
    service.until("and none is created: ");
    first.start_again();
    service.until_ready();
    assert!(is_used(&first, &database) && !is_used(&second, &database));
    assert_eq!((service.stop().0, empty.number(TABLES)), (Some(0), 0));
    // With that host alone the operator has said where the database is to be.
    empty.cts("migrate").success();
    assert_eq!(empty.number(TABLES), 25);
    // Now both have one, and the first is used.
    database.cts("migrate").env("DATABASE_URL", &both).success();
}

#[test]
fn a_promoted_standby_is_used_though_the_old_primary_answers_and_is_not_left_for_it() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let standby = primary.standby();
    let copy = database.on(&standby);
    let both = url(&database, &primary, &standby);
    let service = database.serve().env("DATABASE_URL", &both).start();
    service.until_ready();
    service.until_status("healthy");
    standby.catch_up_with(&primary);
    standby.promote();
    let promoted = Instant::now();
    let (a, b) = (format!("127.0.0.1:{}", primary.port), format!("127.0.0.1:{}", standby.port));
    let named = [&*format!("{b} (timeline 2, "), "in use", &*format!("{a} (timeline 1, ")];
    says(&reasons(&service, "degraded"), &named);
    let took = promoted.elapsed();
    eprintln!("used {} ms after the promotion", took.as_millis());
    assert!(took < FOUND_WITHIN, "{took:?}");
    service.until(&format!("✓ The server {b} answers; its schema is as expected"));
    let before = database.number(ENTRIES);
    await_that("no connection to the old primary is left", || !is_used(&primary, &database));

    // Commands go to the new one too, and heal only there.
    database.sql("DROP INDEX idx_site_logs_time");
    copy.sql("DROP INDEX idx_site_logs_time");
    database.cts("repair").env("DATABASE_URL", &both).success();
    let indexes = "SELECT count(*) FROM pg_class WHERE relname = 'idx_site_logs_time'";
    assert_eq!((database.number(indexes), copy.number(indexes)), (0, 1));
    database.cts("--check").env("DATABASE_URL", &both).status(1).says(&named);

    // The old one goes and comes back, as often as it likes.
    primary.kill();
    service.until_status("healthy");
    primary.start_again();
    says(&reasons(&service, "degraded"), &named);
    assert!(is_used(&standby, &database) && !is_used(&primary, &database));

    // The new one is gone: the old one is no substitute.
    standby.kill();
    let refused =
        format!("{a}: an old primary: its timeline is 1, and {b} has been promoted to timeline 2");
    says(&reasons(&service, "unhealthy"), &[&refused, "pg_rewind"]);
    service.until("⚠ The database cannot be used: ");
    standby.start_again();
    says(&reasons(&service, "degraded"), &named);
    assert_eq!(service.stop().0, Some(0));
    assert_eq!((database.number(ENTRIES), database.number(indexes)), (before, 0));
}

#[test]
fn a_primary_that_was_cut_off_is_not_returned_to() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let standby = primary.standby();
    let both = url(&database, &primary, &standby);
    let service = database.serve().env("DATABASE_URL", &both).start();
    service.until_ready();
    service.until_status("healthy");
    standby.catch_up_with(&primary);
    let before = database.number(ENTRIES);
    // Nothing of it answers, as behind a cut.
    primary.pause();
    standby.promote();
    let promoted = Instant::now();
    service.until_status("healthy");
    assert!(promoted.elapsed() < FOUND_WITHIN, "{:?}", promoted.elapsed());
    primary.resume();
    says(&reasons(&service, "degraded"), &["can be written", "timeline 1", "timeline 2"]);
    // Longer than a connection is used.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(35) {
        service.until_status("degraded");
        assert!(!is_used(&primary, &database) || start.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(service.stop().0, Some(0));
    assert_eq!(database.number(ENTRIES), before);
}

#[test]
fn a_transaction_that_is_open_during_a_promotion_is_not_committed_on_the_old_primary() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    // Slow enough for a promotion.
    database
        .admin()
        .batch_execute(
            "DROP INDEX idx_site_logs_time;
             CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); END $$;
             CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION slow()",
        )
        .unwrap();
    let standby = primary.standby();
    let both = url(&database, &primary, &standby);
    let done = std::thread::scope(|scope| {
        let migrate = scope.spawn(|| database.cts("migrate").env("DATABASE_URL", &both).status(69));
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        await_that("the index is being created", || primary.number(sleeps) > 0);
        standby.promote();
        migrate.join().unwrap()
    });
    done.says(&["an old primary", "nothing was changed"]);
    let indexes = "SELECT count(*) FROM pg_class WHERE relname = 'idx_site_logs_time'";
    assert_eq!(database.number(indexes), 0);
    let copy = database.on(&standby);
    copy.admin().batch_execute("DROP EVENT TRIGGER slow").unwrap();
    database.cts("migrate").env("DATABASE_URL", &both).success();
    assert_eq!((database.number(indexes), copy.number(indexes)), (0, 1));
}

#[test]
fn a_restored_dump_is_used_only_where_it_is_the_only_host() {
    let first = Cluster::builder().start();
    let second = Cluster::builder().of_another_cluster().start();
    let database = first.owned();
    database.cts("migrate").success();
    let copy = database.recreated_on(&second);
    copy.sql(&database.printed(&["--inserts"]));
    let [original, other] = [&first, &second].map(|cluster| {
        cluster.texts("SELECT system_identifier FROM pg_control_system()").remove(0)
    });
    let recorded = "SELECT system_identifier FROM cts_server";
    assert_eq!(copy.texts(recorded), [&*original]);
    let both = url(&database, &first, &second);
    let b = format!("127.0.0.1:{}", second.port);
    first.kill();
    let copied = format!("{b}: another cluster: its system_identifier is {}", other);
    for words in ["migrate", "repair"] {
        let run = database.cts(words).env("DATABASE_URL", &both).env("CTS_WAIT", "1s");
        run.status(69).says(&[&copied, "table cts_server", "start cts once with only this host"]);
    }
    database.cts("--check").env("DATABASE_URL", &both).status(2).says(&[&copied]);
    // Until then nothing is written there.
    assert_eq!(copy.texts(recorded), [&*original]);
    let service = copy.serve().start();
    service.until("The database was last used on another server").until_ready();
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
    assert_eq!(copy.texts(recorded), [&*other]);
    database.cts("migrate").env("DATABASE_URL", &both).success();
    assert!(!copy.cts("migrate").success().all_err().contains("another server"));
}

#[test]
fn one_server_under_two_names_is_one_server() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let hosts = format!("127.0.0.1:{0},localhost:{0}", cluster.port);
    let both = database.url_to(&hosts, "sslmode=disable");
    database.cts("migrate").env("DATABASE_URL", &both).success();
    database.cts("--check").env("DATABASE_URL", &both).success();
    let service = database.serve().env("DATABASE_URL", &both).start();
    service.until_ready();
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_role_that_may_not_read_the_identity_works_and_doctor_says_so() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let functions = ["pg_control_system()", "pg_control_checkpoint()", "pg_control_recovery()"];
    for function in functions {
        let mut admin = database.admin();
        admin.batch_execute(&format!("REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")).unwrap();
    }
    database.cts("migrate").success();
    database.cts("--check").success();
    let examined = database.cts("doctor").run();
    examined.says(&["another server in its place would not be noticed: pg_control_system()"]);
    let service = database.serve().start();
    service.until_ready();
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_running_service_creates_no_tables_where_all_of_them_are_gone() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let service = database.serve().start();
    service.until_ready();
    service.until_status("healthy");
    primary.kill();
    primary.start_again();
    // Before the service has found the restarted server, whose schema it brings up to date.
    let anew = format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION \"{}\"",
        database.name
    );
    database.admin().batch_execute(&anew).unwrap();
    let gone = reasons(&service, "unhealthy");
    service.until("the database had 24 tables of CTS, and now has none");
    says(&gone, &["no table of CTS is left"]);
    assert_eq!(database.number(TABLES), 0);
    assert_eq!(service.stop().0, Some(0));
    database.cts("migrate").success();
    assert_eq!(database.number(TABLES), 25);
}
