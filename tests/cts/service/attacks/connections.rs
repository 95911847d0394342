//! Attacks by connections: many, idle, slow, reset, or more than there are descriptors and threads.

use std::collections::VecDeque;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

use super::*;
use crate::support::harness::{Machine, Run, Service, is_root};

/// A user id that is not used otherwise: limits on threads count by user.
const UNUSED_USER: u32 = 64_207;

#[test]
#[ignore = "sweep"]
fn two_thousand_idle_connections_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("2,000 idle connections", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[ignore = "sweep"]
fn a_continuous_flood_of_connections_does_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let opened = attack("a new silent connection all the time for 3 s", &service, |address| {
        let start = Instant::now();
        let (mut opened, mut silent) = (0, VecDeque::new());
        while start.elapsed() < Duration::from_secs(3) {
            let stream = connect(address);
            // Leaves no connection in TIME_WAIT.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            silent.push_back(stream);
            opened += 1;
            if silent.len() > 2000 {
                silent.pop_front();
            }
        }
        opened
    });
    println!("  {opened} connections");
}

#[test]
#[ignore = "sweep"]
fn a_stop_does_not_wait_for_idle_connections() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let idle = idle(service.address(), 2000);
    let start = Instant::now();
    let (code, log) = service.stop();
    println!("SIGTERM under 2,000 idle connections: {} ms", start.elapsed().as_millis());
    assert_eq!(code, Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    drop(idle);
}

#[test]
#[ignore = "sweep"]
fn three_hundred_keep_alive_connections_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("300 keep-alive idlers", &service, |address| {
        let idlers: Vec<TcpStream> = (0..300)
            .map(|_| {
                let stream = asking(address, PLAIN);
                assert_eq!(code(&rest(&stream)), 200);
                stream
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        drop(idlers);
    });
}

#[test]
#[ignore = "sweep"]
fn three_hundred_slow_senders_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("200 heads and 100 bodies at a byte a second", &service, |address| {
        let with_body = HEALTH.replace("\r\n\r\n", "\r\nContent-Length: 1000\r\n\r\n");
        let mut slow = idle(address, 300);
        for stream in &mut slow[200..] {
            let _ = stream.write_all(with_body.as_bytes());
        }
        for byte in HEALTH.as_bytes().iter().take(3) {
            for stream in &mut slow {
                // Some have been evicted.
                let _ = stream.write_all(&[*byte]);
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn clients_that_never_read_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("500 that ask and never read", &service, |address| {
        let unread: Vec<TcpStream> = (0..500).map(|_| asking(address, HEALTH)).collect();
        thread::sleep(Duration::from_secs(1));
        drop(unread);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_descriptors_does_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let mut run = Run::of(Path::new("prlimit"), "--nofile=256").db(&machine.db());
    run.command.args([env!("CARGO_BIN_EXE_cts"), "serve", "--port", "0"]);
    let service = run.env("CTS_HTTP_CONNECTIONS", "4096").start();
    service.until_ready();
    attack("2,000 idle connections, 256 descriptors, 4,096 slots", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_threads_does_not_delay_health() {
    let _turn = one_at_a_time();
    if !is_root() {
        crate::support::not_tried("a limit on threads takes a user of its own");
        return;
    }
    let machine = Machine::new();
    fs::create_dir(machine.path("own")).unwrap();
    chown(machine.path("own"), Some(UNUSED_USER), Some(UNUSED_USER)).unwrap();
    machine.cts_as_nobody("--version").success();
    let as_unused_user = |program: &str, words: &str| {
        let mut run = Run::of(Path::new(program), words).db(&machine.path("own/cts.db"));
        run.command.uid(UNUSED_USER).gid(UNUSED_USER);
        run
    };
    let words = format!("--nproc=60 {} serve --port 0", machine.path("cts-for-all").display());
    let service = as_unused_user("prlimit", &words).start();
    service.until_ready();
    let before = settled_threads(&service);
    attack("2,000 idle connections, 60 threads", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    let others: Vec<Service> = (0..60).map(|_| as_unused_user("sleep", "60").start()).collect();
    attack("no thread can be made", &service, |address| {
        let idle = idle(address, 3);
        for _ in 0..50 {
            assert_eq!(code(&exchange(address, PLAIN.as_bytes())), 200);
        }
        assert_eq!(settled_threads(&service), before);
        drop(idle);
    });
    drop(others);
}

#[test]
#[ignore = "sweep"]
fn four_thousand_resets_after_the_request_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("4,000 resets right after the request", &service, |address| {
        for _ in 0..4000 {
            let stream = asking(address, HEALTH);
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
}

#[test]
#[ignore = "sweep"]
fn five_thousand_connects_and_closes_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("5,000 connects and closes", &service, |address| {
        for _ in 0..5000 {
            drop(connect(address));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn six_hundred_simultaneous_requests_are_all_answered() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("600 real requests at once, three times", &service, |address| {
        for _ in 0..3 {
            let crowd: Vec<TcpStream> = (0..600).map(|_| asking(address, HEALTH)).collect();
            let lost = crowd.iter().filter(|stream| rest(stream).is_empty()).count();
            assert_eq!(lost, 0, "so many had no answer");
        }
    });
}

#[test]
#[ignore = "sweep"]
fn requests_sent_while_the_process_was_stopped_are_answered() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let address = service.address();
    service.signal(Signal::STOP);
    let silent = idle(address, 500);
    let real: Vec<TcpStream> = (0..20).map(|_| asking(address, HEALTH)).collect();
    service.signal(Signal::CONT);
    let start = Instant::now();
    for stream in &real {
        assert_eq!(code(&rest(stream)), 200);
    }
    let took = start.elapsed();
    println!(
        "20 behind 500 idle after a stall: answered 20 of 20, slowest {} ms",
        took.as_millis()
    );
    assert!(took < ANSWER_WITHIN, "{took:?}");
    drop(silent);
}
