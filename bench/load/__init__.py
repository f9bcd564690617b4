"""Load generators, each a process that sends and counts raw bytes without a framework; see bench/README.md."""
