//! The settings that a server reports on one connection. The library keeps the last value of each name for the life
//! of the connection, so that the names and their last values are what is counted: a wait of hours for a lock, in
//! which the server reports the same setting with every transaction, is no reason to give the server up.
//! (PostgreSQL documentation, "Message Flow", "Asynchronous Operations": ParameterStatus)

use std::collections::HashMap;

/// The settings that a server has reported, each with the length of its last message, in bytes.
#[derive(Default)]
pub struct ReportedSettings {
    lengths: HashMap<Vec<u8>, u64>,
    /// The sum of these lengths, and of the message that is being read.
    bytes: u64,
    /// The message that is being read, up to the end of its name.
    reading: Option<SettingMessage>,
}

/// The beginning of a message with the value of a setting.
struct SettingMessage {
    length: u64,
    name: Vec<u8>,
}

impl ReportedSettings {
    /// A message of this length begins. Returns how many bytes are kept with it.
    pub fn begin(&mut self, length: u64) -> u64 {
        self.bytes += length;
        self.reading = Some(SettingMessage { length, name: Vec::new() });
        self.bytes
    }

    /// Goes through the next bytes of the message: the name, a zero, and the value.
    pub fn read(&mut self, content: &[u8]) {
        let Some(mut report) = self.reading.take() else { return };
        let end = content.iter().position(|byte| *byte == 0);
        report.name.extend_from_slice(&content[..end.unwrap_or(content.len())]);
        if end.is_none() {
            self.reading = Some(report);
        } else if let Some(before) = self.lengths.insert(report.name, report.length) {
            self.bytes -= before;
        }
    }
}
