"""Reading and printing: values, NDJSON, progress bars, announcements."""
