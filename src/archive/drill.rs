//! The drill: the newest moment of the archive is restored to a temporary place, compared with the live database as it was at
//! that moment, and taken away.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::chain::Segment;
use super::restore::MomentPlan;
use super::writer::ArchiveWriter;
use crate::backup::{TrialFolder, refuse_full_disk};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::archive::{DatabaseMoment, MomentComparison};
use crate::system::clock::unix_milliseconds;

/// How long a moment is waited for at which the database is seen as it is archived. One comes with each capture, but
/// not while programs commit all the time.
const MOMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// The name of the restored database.
const RESTORED: &str = "cts.db";

/// What restoring the newest moment has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveDrill {
    /// When it was tried, in milliseconds since 1970.
    pub at: i64,
    /// The moment that was restored, in milliseconds since 1970.
    pub moment: i64,
    /// How long it took to build the database and to prove it; `None` if that failed.
    pub restore_seconds: Option<f64>,
    /// How much of it was compared with the live database; `None` if that failed.
    pub compared: Option<MomentComparison>,
    /// Why it is not the live database as it was.
    pub failure: Option<String>,
}

/// The live database at a moment, and the segments that it is built of.
pub struct ArchivedMoment {
    pub live: Box<dyn DatabaseMoment>,
    pub segments: Vec<Segment>,
}

impl ArchiveWriter {
    /// Restores the newest moment for a trial and compares it with the live database. Where it differs, the archive begins anew
    /// with a full copy.
    ///
    /// # Errors
    /// Where it could not be tried: no moment, no room, `wait` was cancelled. Nothing is left behind.
    pub fn drill(&self, wait: &WaitPolicy<'_>) -> Result<ArchiveDrill> {
        let ArchivedMoment { mut live, segments } = self.moment(MOMENT_TIMEOUT, wait)?;
        live.read(wait)?;
        let plan = MomentPlan::of(&segments);
        let (at, moment) = (unix_milliseconds(), plan.at);
        let (restore_seconds, compared, failure) = match self.restore_for_trial(&*live, &plan, wait)
        {
            Ok((took, compared)) => (Some(took.as_secs_f64()), Some(compared), None),
            Err(error) if error.kind == Kind::Data || error.is_damage() => {
                self.begin_anew(&error);
                (None, None, Some(error.message()))
            }
            Err(error) => return Err(error),
        };
        Ok(ArchiveDrill { at, moment, restore_seconds, compared, failure })
    }

    fn restore_for_trial(
        &self,
        live: &dyn DatabaseMoment,
        plan: &MomentPlan,
        wait: &WaitPolicy<'_>,
    ) -> Result<(Duration, MomentComparison)> {
        let folder = self.folder();
        let size_bytes = folder.size_of(plan)?;
        refuse_full_disk(folder.path(), "restoring the archive for a trial", size_bytes)?;
        let place = TrialFolder::create(folder.path())?;
        let (start, restored) = (Instant::now(), place.path().join(RESTORED));
        folder.build(plan, &restored, wait)?;
        let comparison = live.compare(&restored, wait)?;
        Ok((start.elapsed(), comparison))
    }
}

/// The error of a moment that did not come.
pub fn no_moment() -> Error {
    let what = "no moment came at which the database could be seen as it is archived: it is not archived now, or programs \
        commit all the time";
    Error::new(Kind::TryAgain, what)
}
