//! Statistics of closed positions: what is measured of trades that follow one another in time.

mod agreement;
pub mod measures;
pub mod reading;
pub mod report;
pub mod report_json;
pub mod report_table;
pub mod running_sums;
