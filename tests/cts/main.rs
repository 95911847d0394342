//! cts as its operators meet it: the real binary, real files, real signals.
