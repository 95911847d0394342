//! Statistics of closed positions: what is measured of trades that follow one another in time.

pub mod measures;
