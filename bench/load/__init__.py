"""Load generators and bare servers: processes of their own, raw bytes, no framework; see bench/README.md."""
