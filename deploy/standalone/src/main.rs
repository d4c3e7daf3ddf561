//! Both services in one process.

fn main() {}
