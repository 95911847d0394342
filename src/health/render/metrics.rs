//! The metrics, in the text format of Prometheus (version 0.0.4), written with `prometheus-client`. A figure that is
//! not known has no sample: 0 would be a statement.
//! (prometheus.io/docs/practices/naming, prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics")

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::archive::add_metrics as add_archive;
use crate::backup::BackupState;
use crate::health::report::DriftCounts;
use crate::health::{BUCKETS, Figures, RecordedProbes, Report, Status, Subject};
use crate::store::TableFigures;
use crate::system::process_figures::ProcessFigures;
use crate::system::version::{COMMIT, VERSION};
use crate::system::visible::visible;
use cts_schema::catalog::core_tables;

/// The type of the text, as the header `Content-Type` has it.
pub const METRICS_CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What one scrape shows.
#[derive(Debug)]
pub struct Scrape {
    /// The state of the database.
    pub report: Arc<Report>,
    /// What was measured last.
    pub figures: Arc<Figures>,
    /// How long the inspections of the database took.
    pub probes: RecordedProbes,
    /// What was counted of HTTP.
    pub http: HttpFigures,
    /// The figures of the process.
    pub process: ProcessFigures,
}

/// What was counted of HTTP since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFigures {
    /// The requests that were answered.
    pub requests: Vec<RequestCount>,
    /// The clients that were rejected, by the name of the reason.
    pub rejected: Vec<(&'static str, u64)>,
}

/// Requests with the same path and the same status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// The path, one of those that there are, or a word for all others.
    pub path: &'static str,
    /// The status code of the reply.
    pub status_code: u16,
    /// How many there were.
    pub count: u64,
}

impl Scrape {
    /// The body of `/metrics`.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metrics = Metrics(encoder);
        self.add_health(&mut metrics)?;
        self.add_schema(&mut metrics)?;
        self.add_sizes(&mut metrics)?;
        self.add_tables(&mut metrics)?;
        self.add_upkeep(&mut metrics)?;
        if let Some(backups) = &self.report.backups {
            self.add_backups(&mut metrics, backups)?;
        }
        if let Some(archive) = &self.report.archive {
            add_archive(&mut metrics, archive)?;
        }
        self.add_http(&mut metrics)?;
        self.add_process(&mut metrics)
    }
}

impl Scrape {
    fn add_health(&self, to: &mut Metrics<'_>) -> fmt::Result {
        let (report, status) = (&*self.report, self.report.status());
        let build = [("version", VERSION), ("commit", COMMIT), ("database", report.backend.name())];
        let help = "What this program was built from, and the kind of its database.";
        let mut metric = to.0.encode_descriptor("cts_build_info", help, None, MetricType::Gauge)?;
        metric.encode_family(&build)?.encode_gauge(&1_u64)?;
        let help = "Whether the database is open and has answered.";
        to.gauge("cts_up", help, Some(u64::from(report.connected)))?;
        let all = [Status::Healthy, Status::Degraded, Status::Unhealthy, Status::Initializing];
        let states = all.iter().map(|one| (one.name(), u64::from(*one == status)));
        to.gauges("cts_health_status", "1 for the present status.", "status", states)?;
        let counts = self.probes.counts.iter().copied();
        let buckets: Vec<(f64, u64)> = BUCKETS.into_iter().zip(counts).collect();
        let (sum, count) = (self.probes.sum_seconds, self.probes.count());
        let help = "Time that reading the ledger and the catalogue took.";
        let name = "cts_probe_duration_seconds";
        let mut metric = to.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn add_schema(&self, to: &mut Metrics<'_>) -> fmt::Result {
        let report = &*self.report;
        let known = |count: usize| report.connected.then_some(count as u64);
        let tables = report.count(core_tables());
        to.gauge("cts_tables_expected", "Tables that cts expects.", Some(tables.expected as u64))?;
        to.gauge("cts_tables_present", "Those of them that exist.", known(tables.existing))?;
        let help = "Migrations in a complete ledger.";
        to.gauge("cts_migrations_expected", help, Some(report.expected_migrations as u64))?;
        let help = "Migrations of cts in the ledger.";
        to.gauge("cts_migrations_applied", help, known(report.applied.len()))?;
        let drift = report.drift.map(|drift| {
            let DriftCounts { tables, columns, indexes, altered, counters } = drift;
            [
                ("missing_table", tables),
                ("missing_column", columns),
                ("missing_index", indexes),
                ("altered", altered),
                ("counter", counters),
            ]
        });
        let help = "Objects of the schema that are not as expected.";
        let kinds = drift.into_iter().flatten().map(|(kind, count)| (kind, count as u64));
        to.gauges("cts_schema_drift_objects", help, "kind", kinds)?;
        let help = "Rules of the schema that this database does not enforce.";
        to.gauge("cts_constraint_exceptions", help, known(report.exceptions.len()))?;
        let help = "Connections of cts to the server.";
        let pool = report.storage.pool.into_iter().flat_map(|pool| {
            let used = pool.connections.saturating_sub(pool.idle);
            [("idle", u64::from(pool.idle)), ("used", u64::from(used))]
        });
        to.gauges("cts_pool_connections", help, "state", pool)?;
        let help = "Connections that cts opens to the server at most.";
        to.gauge("cts_pool_connections_max", help, report.storage.pool.map(|pool| pool.max))
    }

    fn add_sizes(&self, to: &mut Metrics<'_>) -> fmt::Result {
        let (figures, report) = (&*self.figures, &*self.report);
        let help = "Size of the database, its WAL aside.";
        to.gauge("cts_database_size_bytes", help, figures.database_size_bytes)?;
        to.gauge("cts_wal_size_bytes", "Size of the WAL of SQLite.", figures.wal_size_bytes)?;
        let help = "Free space on the disk of the database.";
        to.gauge("cts_disk_free_bytes", help, report.storage.free_bytes)?;
        to.gauge("cts_disk_total_bytes", "Size of that disk.", report.storage.total_bytes)?;
        let help = "End of the certificate of the database server, since 1970.";
        let ends_at = figures.certificate_ends_at.and_then(since_1970);
        to.gauge("cts_server_certificate_not_after_timestamp_seconds", help, ends_at)
    }

    fn add_tables(&self, to: &mut Metrics<'_>) -> fmt::Result {
        // Of names that look the same, the first: a series that is there twice makes the whole answer invalid.
        let mut seen = BTreeSet::new();
        let tables: Vec<(String, &TableFigures)> = self
            .figures
            .tables
            .iter()
            .map(|table| (visible(&table.name).into_owned(), table))
            .filter(|(name, _)| seen.insert(name.clone()))
            .collect();
        let rows = tables.iter().filter_map(|(name, table)| Some((&**name, table.rows?)));
        let help = "Rows of a table, counted or estimated by cts now and then.";
        to.gauges("cts_table_rows", help, "table", rows)?;
        let sizes = tables.iter().filter_map(|(name, table)| Some((&**name, table.size_bytes?)));
        let help = "Size of a table with its indexes.";
        to.gauges("cts_table_size_bytes", help, "table", sizes)?;
        let measured_at = self.figures.measured_at;
        let help = "Time of the last count of rows, since 1970.";
        let at = measured_at.and_then(since_1970);
        to.gauge("cts_tables_measured_timestamp_seconds", help, at)?;
        let help = "Tables of other programs without these figures, because there are so many.";
        let omitted = measured_at.map(|_| self.figures.tables_omitted as u64);
        to.gauge("cts_tables_not_measured", help, omitted)
    }

    /// What retention has deleted, and when it and the statistics were last done.
    fn add_upkeep(&self, to: &mut Metrics<'_>) -> fmt::Result {
        if !self.figures.deleted_rows.is_empty() {
            let (name, help) = ("cts_retention_deleted_rows", "Rows that retention has deleted.");
            let mut metric = to.0.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (table, rows) in &self.figures.deleted_rows {
                let label = [("table", *table)];
                metric.encode_family(&label)?.encode_counter::<NoLabelSet, _, f64>(rows, None)?;
            }
        }
        let help = "Time when retention last went through all tables, since 1970.";
        let at = self.figures.retention_at.and_then(since_1970);
        to.gauge("cts_retention_last_success_timestamp_seconds", help, at)?;
        let help = "Time when the statistics of closed positions were last brought up to date, since 1970.";
        let at = self.figures.statistics_at.and_then(since_1970);
        to.gauge("cts_statistics_last_success_timestamp_seconds", help, at)
    }

    fn add_backups(&self, to: &mut Metrics<'_>, backups: &BackupState) -> fmt::Result {
        let last = backups.last.as_ref().and_then(|last| last.record.made_at);
        let help = "Time of the last good backup, since 1970.";
        let name = "cts_backup_last_success_timestamp_seconds";
        to.gauge(name, help, last.and_then(since_1970))?;
        let help = "Age up to which the last good backup is recent enough.";
        let age_max = backups.age_max().map(|age| age.as_secs());
        to.gauge("cts_backup_age_max_seconds", help, age_max)?;
        let help = "Time that the last trial took from a backup to a proved database.";
        let drilled = backups.last_drilled.as_ref();
        let seconds = drilled.and_then(|record| record.restore_seconds());
        to.gauge("cts_backup_restore_seconds", help, seconds)?;
        let help = "Whether the last backup could not be restored for a trial.";
        to.gauge("cts_backup_drill_failed", help, self.is_drill_failed(backups).map(u64::from))?;
        let help = "Good backups in the folder.";
        to.gauge("cts_backups", help, backups.count.map(|count| count as u64))
    }

    /// `None` where backups are not known, and no trial has failed.
    fn is_drill_failed(&self, backups: &BackupState) -> Option<bool> {
        let conditions = &self.report.backup_conditions;
        let is_recorded = conditions.iter().any(|fault| fault.subject == Subject::Drill);
        let drill = backups.newest_faulty.as_ref().and_then(|record| record.drill.as_ref());
        match is_recorded || drill.is_some_and(|drill| drill.failure.is_some()) {
            true => Some(true),
            false => backups.count.map(|_| false),
        }
    }

    fn add_http(&self, to: &mut Metrics<'_>) -> fmt::Result {
        let kind = MetricType::Counter;
        if !self.http.requests.is_empty() {
            let help = "Requests that were answered; a path that there is not is named other.";
            let mut metric = to.0.encode_descriptor("cts_http_requests", help, None, kind)?;
            for RequestCount { path, status_code, count } in &self.http.requests {
                let code = status_code.to_string();
                let labels = [("path", *path), ("code", code.as_str())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(count, None)?;
            }
        }
        let help =
            "Clients that were refused, or closed because they were slow while others waited.";
        let mut metric = to.0.encode_descriptor("cts_http_rejected", help, None, kind)?;
        for (reason, count) in &self.http.rejected {
            let labels = [("reason", *reason)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(count, None)?;
        }
        Ok(())
    }

    fn add_process(&self, to: &mut Metrics<'_>) -> fmt::Result {
        let process = &self.process;
        if let Some(seconds) = process.cpu_seconds {
            let (name, help) = ("process_cpu_seconds", "Processor time that the process used.");
            let mut metric = to.0.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
        }
        let help = "Start of the process, since 1970.";
        let started_at = process.started_at.and_then(since_1970);
        to.gauge("process_start_time_seconds", help, started_at)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in RAM.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Address space.", process.virtual_bytes),
            ("process_open_fds", "Open file descriptors.", process.open_descriptors),
            ("process_max_fds", "File descriptors that may be open.", process.descriptors_max),
            ("process_threads", "Threads.", process.threads),
        ] {
            to.gauge(name, help, value)?;
        }
        Ok(())
    }
}

/// Writes metrics, each with its description.
pub(super) struct Metrics<'e>(DescriptorEncoder<'e>);

impl Metrics<'_> {
    /// A gauge without labels. Nothing where its value is not known.
    pub(super) fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: Option<V>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// A gauge with one label. Nothing where it has no sample.
    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value_of_label, value) in samples {
            metric.encode_family(&[(label, value_of_label)])?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

/// Seconds since 1970; `None` before.
fn since_1970(at: SystemTime) -> Option<f64> {
    at.duration_since(UNIX_EPOCH).as_ref().map(Duration::as_secs_f64).ok()
}
