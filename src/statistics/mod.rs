//! The statistics of closed positions: the measures of trades that follow one another in time ([`measures`]), a day
//! calculated from its positions ([`day`]), what differs from what is stored ([`difference`]), what can be proved without
//! positions ([`consistency`]), keeping it current
//! ([`keeper`]), and the proof ([`proof`]) with its text ([`render`]); and the report of `cts stats`: [`reading`] and [`report`].

mod agreement;
mod consistency;
mod day;
mod difference;
pub mod keeper;
pub mod measures;
pub mod proof;
pub mod reading;
pub mod render;
pub mod report;
pub mod report_json;
pub mod report_table;
pub mod running_sums;
mod scope;
mod span;
