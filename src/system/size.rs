//! Sizes as people read them.

use std::fmt;

/// A number of bytes, shown in the unit in which it is read easily: to 10 MiB in KiB, so that a small difference is seen,
/// then in MiB, GiB and TiB. Never shown as more than it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = *self;
        let (shift, unit) = match bytes {
            0x0a00_0000_0000.. => (40, "TiB"),
            0x4000_0000.. => (30, "GiB"),
            0xa0_0000.. => (20, "MiB"),
            _ => return write!(f, "{} KiB", bytes >> 10),
        };
        let whole = bytes >> shift;
        let part = bytes & ((1 << shift) - 1);
        // Hundredths of the unit, without those that would not be seen.
        let hundredths = (u128::from(part) * 100) >> shift;
        match (unit, whole) {
            ("MiB", _) | (_, 100..) => write!(f, "{whole} {unit}"),
            (_, 10..) => write!(f, "{whole}.{} {unit}", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_in_the_unit_in_which_it_is_read() {
        const KIB: u64 = 1 << 10;
        for (bytes, shown) in [
            (0, "0 KiB"),
            (401_408, "392 KiB"),
            (10 * KIB * KIB - 1, "10239 KiB"),
            (10 * KIB * KIB, "10 MiB"),
            (900 * KIB * KIB + 5, "900 MiB"),
            (1023 * KIB * KIB, "1023 MiB"),
            (KIB * KIB * KIB, "1.00 GiB"),
            (KIB * KIB * KIB * 5 / 4, "1.25 GiB"),
            (47 * KIB * KIB * KIB + 1, "47.0 GiB"),
            (252 * KIB * KIB * KIB, "252 GiB"),
            (9 * KIB * KIB * KIB * KIB, "9216 GiB"),
            (12 * KIB * KIB * KIB * KIB, "12.0 TiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown, "{bytes}");
        }
    }
}
