//! The daemon: wires all layers, keeps them running, takes them down in order.

pub mod background;
pub mod mount_dir;
pub mod mountpoint;
pub mod run_state;
