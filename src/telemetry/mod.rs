//! What pailfs tells about itself.

pub mod logs;
