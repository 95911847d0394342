//! Backups of the database: made and proved while programs write, kept by rules, tried by restoring them, and restored.
//!
//! A backup is a file with two companions: its SHA-256 in the form that `sha256sum --check` reads, and its manifest,
//! which says of which database it is and what it holds. A file without a manifest was not made here and is never deleted.

mod choose;
mod compact;
mod companions;
mod compress;
mod compressing;
mod delete;
mod digest;
mod drill;
mod failure;
mod folder;
mod follow_up;
mod inventory;
mod keep;
mod listing;
mod make;
mod manifest;
mod name;
mod partial;
mod place;
mod proof;
mod restore;
mod retention;
mod room;
mod schedule;
mod seal;
mod settings;
mod state;
mod trial_folder;
mod verify;

pub use choose::{BackupChoice, find_backup};
pub use compact::{Compaction, CompactionPlan, plan_compaction};
pub use delete::{BackupOwner, Deletions, NewBackup, remove_failed};
pub use drill::drill;
pub use folder::{BackupFolder, StoredBackup};
pub use follow_up::{clear_room, follow_up};
pub use inventory::{BackupInventory, InventoryTask};
pub use keep::{EXPECTED_RULES, KeepRules};
pub use listing::{BackupListing, Keeping, ListedBackup, list_folder};
pub use make::{BackupTarget, MadeBackup, lock, make_locked};
pub use manifest::Manifest;
pub use partial::{PartialFile, write_whole};
pub use proof::examine;
pub use restore::{
    RestorePlan, Restored, execute as execute_restore, plan as plan_restore, plan_unbuilt,
};
pub use room::{refuse_full_disk, refuse_low_disk};
pub use schedule::Schedule;
pub use settings::BackupSettings;
pub use state::{
    Age, BackedUpDatabase, BackupInspection, BackupState, Clocks, Inspector, LastBackup, Recency,
    shown_age,
};
pub use trial_folder::TrialFolder;
pub use verify::{VerifiedBackup, verify};
